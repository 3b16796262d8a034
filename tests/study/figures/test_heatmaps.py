import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from drawn import assert_legible, pixels
from matplotlib.colors import to_rgb

from decoupled_wd import LR, PAPER
from decoupled_wd.study.claims.optimizers import octaves
from decoupled_wd.study.figures.heatmaps import heatmaps
from decoupled_wd.study.statistics import Ridge, ridge

FIGURE = json.loads((Path(__file__).parents[2] / "data" / "paper_figure2.json").read_text("utf-8"))
DIMS = ("learning_rate", "weight_decay", "seed")
LOG_RATES = np.arange(0, -11, -1)
SLOPES = {"SGD": -0.67, "SGDW": -0.14, "Adam": -2.07, "AdamW": 0.06}


def grid(error, rates, decays):
    return xr.Dataset({"test_error": (DIMS, error)}, {DIMS[0]: rates, DIMS[1]: decays})


def realistic(optimizer):
    """Three seeds of a valley as the pilots saw it, λ = 0 included; the far corner diverges."""
    first = {"SGD": -9, "Adam": -10}.get(optimizer, -11)
    log_decays = np.arange(first - 1, first + 11)
    x, y = LOG_RATES[:, None], log_decays[None]
    middle = first + 5.5 + SLOPES[optimizer] * (x + 5)
    noise = np.random.default_rng(len(optimizer)).normal(0, 0.7, (11, 12, 3))
    error = np.minimum(39 + 0.25 * (y - middle) ** 2 + 0.22 * (x + 5) ** 2, 90)
    error = np.where((x + y > -1)[..., None], np.nan, error[..., None] + noise)
    decays = np.where(log_decays < first, 0, 2.0**log_decays)
    return grid(error, (0.1 if optimizer.startswith("Adam") else 1.0) * 2.0**LOG_RATES, decays)


def tree(**children):
    return xr.DataTree.from_dict(children)


@pytest.fixture(scope="module")
def results():
    return tree(**{optimizer: realistic(optimizer) for optimizer in SLOPES})


@pytest.fixture(scope="module")
def figure(results):
    drawn = heatmaps(results, tolerance=2.5)
    drawn.savefig(io.BytesIO(), format="png")
    return drawn


@pytest.fixture
def paper():
    return tree(
        **{
            name: grid(
                np.array(error)[..., None],
                FIGURE["learning_rate"][name],
                FIGURE["weight_decay_raw"],
            )
            for name, error in FIGURE["error"].items()
        }
    )


def image(axis):
    return axis.images[0].get_array()


def test_the_figure_has_the_width_of_a_readme(figure):
    assert pixels(figure).shape[:2] == (450, 1600)


def test_one_panel_for_each_child_in_its_order(figure):
    titles = [axis.get_title().splitlines()[0] for axis in figure.axes[:4]]
    assert titles == ["SGD + L2", "SGDW (decoupled)", "Adam + L2", "AdamW (decoupled)"]


def test_the_paper_s_figure_says_what_the_paper_found(paper):
    titles = [axis.get_title().splitlines()[1] for axis in heatmaps(paper).axes[:4]]
    assert titles == [
        "best 3.9 %, ridge slope −0.80",
        "best 3.9 %, ridge slope +0.01",
        "best 4.9 %, ridge slope −1.63",
        "best 3.9 %, ridge slope +0.00",
    ]


def test_tolerance_and_drop_edge_reach_the_ridge(paper):
    titles = [axis.get_title() for axis in heatmaps(paper, tolerance=1.0, drop_edge=False).axes]
    assert "ridge slope −1.67" in titles[2]
    slope = ridge(*paper_grid("SGD"), tolerance=0.3).slope
    shown = heatmaps(paper, tolerance=0.3).axes[0].get_title()
    assert shown.endswith(f"{slope:+.2f}".replace("-", "−"))


def paper_grid(name):
    return FIGURE["error"][name], FIGURE["learning_rate"][name], FIGURE["weight_decay_raw"]


def test_the_map_is_the_mean_over_the_seeds_with_large_rates_on_top(results, figure):
    expected = results["SGD"]["test_error"].values.mean(axis=2)[::-1]  # rates there descend
    np.testing.assert_allclose(image(figure.axes[0]).filled(np.nan), expected)
    assert not figure.axes[0].yaxis_inverted()


def test_neither_order_of_the_coordinates_nor_of_the_dimensions_matters(results):
    turned = tree(
        **{
            name: child.dataset.sortby("learning_rate")
            .isel(weight_decay=slice(None, None, -1))
            .transpose("seed", "weight_decay", "learning_rate")
            for name, child in results.children.items()
        }
    )
    drawn = (heatmaps(one, tolerance=2.5) for one in (results, turned))
    np.testing.assert_array_equal(*map(pixels, drawn))


def test_one_colour_scale_from_the_best_error_to_the_cap(results, figure):
    means = [child["test_error"].values.mean(axis=2) for child in results.children.values()]
    finite = np.concatenate([mean[np.isfinite(mean)] for mean in means])
    limits = {axis.images[0].get_clim() for axis in figure.axes[:4]}
    ((low, cap),) = limits
    assert low == finite.min()
    assert 0.6 <= (finite <= cap).mean() < 0.75
    assert figure.axes[4].get_yticklabels()[-1].get_text() == f"≥ {cap:g}"
    assert heatmaps(results, cap=50.0).axes[0].images[0].get_clim() == (low, 50.0)


def test_a_cell_with_a_diverged_seed_is_grey_and_explained(results):
    once = realistic("AdamW")
    once["test_error"][5, 5, 1] = np.nan
    drawn = heatmaps(tree(AdamW=once), tolerance=2.5)
    shown = drawn.axes[0].images[0]
    grey = to_rgb(drawn.legends[0].get_patches()[0].get_facecolor())
    np.testing.assert_allclose(shown.to_rgba(image(drawn.axes[0]))[5, 5, :3], grey, atol=1e-6)
    assert [t.get_text() for t in drawn.legends[0].get_texts()][-1] == "diverged"


def test_without_divergence_the_legend_is_silent_about_it(paper):
    assert "diverged" not in [t.get_text() for t in heatmaps(paper).legends[0].get_texts()]


def test_rings_and_star_sit_on_the_best_cells(figure):
    for axis in figure.axes[:4]:
        error = image(axis).filled(np.inf)
        rings, star = (marks.get_offsets().astype(int) for marks in axis.collections)
        ringed = error[rings[:, 1], rings[:, 0]]
        assert len(ringed) == 10
        np.testing.assert_array_equal(np.sort(ringed), np.sort(error, axis=None)[:10])
        assert error[star[0, 1], star[0, 0]] == error.min()


def test_the_line_has_the_ridge_s_slope_and_the_dots_are_its_rows(results, figure):
    for axis, child in zip(figure.axes, results.children.values(), strict=False):
        data = child.dataset
        found = ridge(data.test_error, data.learning_rate, data.weight_decay, tolerance=2.5)
        line, dots = axis.lines[-2:]
        # One cell is a factor of two in both directions, and column 0 is λ = 0.
        first = np.log2(data.weight_decay.values[1])
        expected = np.log2(found.weight_decay[::-1]) - first + 1  # rates there descend
        np.testing.assert_allclose(dots.get_xdata(), expected, atol=1e-6)
        x, y = (values[np.isfinite(line.get_xdata())] for values in line.get_data())
        assert (x[-1] - x[0]) / (y[-1] - y[0]) == pytest.approx(found.slope, abs=1e-6)


def test_a_ridge_that_was_measured_more_finely_is_the_one_that_is_drawn(results):
    """Its dots lie between the cells, and beyond the map there are none."""
    child = results["SGD"].dataset.sortby("learning_rate")
    first, rate = child.weight_decay.values[1], child.learning_rate.values[4]
    found = Ridge(rate * np.array([1, 2.0**0.5, 4]), first * np.array([8, 2.0**2.5, 0.25]), -0.43)
    drawn = heatmaps(tree(SGD=child, AdamW=child), ridges={"AdamW": found, "SGD": found})
    for axis in drawn.axes[:2]:
        dots = axis.lines[-1]
        np.testing.assert_allclose(dots.get_xdata(), [4, 3.5, np.nan], atol=1e-6)
        np.testing.assert_allclose(dots.get_ydata(), [4, 4.5, 6], atol=1e-6)
        assert axis.get_title().endswith("ridge slope −0.43")
    none = Ridge(found.learning_rate, found.weight_decay * np.nan, np.nan)
    (axis, _) = heatmaps(tree(SGD=child), ridges={"SGD": none}).axes
    assert axis.get_title().endswith("no ridge")


def test_a_ridge_whose_slope_nobody_knows_has_dots_without_a_line(results):
    child = results["SGD"].dataset
    found = ridge(child.test_error, child.learning_rate, child.weight_decay, tolerance=9)
    (axis, _) = heatmaps(tree(SGD=child), ridges={"SGD": found._replace(slope=np.nan)}).axes
    assert [line.get_linestyle() for line in axis.lines[1:]] == ["None"]
    assert np.isfinite(axis.lines[-1].get_xdata()).any()
    assert axis.get_title().endswith("ridge slope unknown")


def test_ridge_dots_on_the_edge_are_drawn():
    decays = 0.416 * 2.0 ** np.arange(9)  # log(exp(log 0.416)) < log 0.416 in most libraries
    error = 40 + np.add.outer(np.arange(4), np.arange(9.0))[..., None]
    drawn = heatmaps(tree(SGD=grid(error, [1, 2, 4, 8], decays)), tolerance=9, drop_edge=False)
    np.testing.assert_array_equal(drawn.axes[0].lines[-1].get_xdata(), [0, 0, 0, 0])


def test_axes_are_labelled_in_powers_of_two_of_a_named_unit(figure):
    sgd, adam = figure.axes[0], figure.axes[2]
    assert sgd.get_ylabel() == "learning rate α"
    assert adam.get_ylabel() == "learning rate α (× 0.1)"
    assert adam.get_yticklabels()[0].get_text() == "$2^{0}$"
    labels = {label.get_position()[0]: label.get_text() for label in sgd.get_xticklabels()}
    assert labels[0] == "0"
    assert labels[11] == "$2^{1}$"
    assert 1 not in labels


def test_decays_in_lr_coupled_units_are_powers_of_two_of_ten():
    axes = octaves("AdamW", 11, LR)  # the highest is 80
    (axis, _) = heatmaps(tree(AdamW=grid(np.ones((11, 11, 1)), *axes.values()))).axes
    assert axis.get_xlabel() == "weight decay λ (× 10)"
    assert "$2^{3}$" in [label.get_text() for label in axis.get_xticklabels()]


def test_other_values_are_labelled_as_they_are():
    error = np.ones((3, 4, 1)) + np.arange(4)[:, None]
    axis = heatmaps(tree(Lion=grid(error, [3e-4, 1e-3, 3e-3], [0, 1e-5, 1.3e-4, 1e-2]))).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["3e-3", "1e-3", "3e-4"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "1e-2", "1.3e-4"]
    assert axis.get_title().startswith("Lion\n")


def test_values_are_labelled_in_the_shorter_form():
    axis = heatmaps(tree(Lion=grid(np.ones((3, 2, 1)), [0.031, 0.25, 3.0], [1.5e-5, 42.0]))).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["3", "0.25", "0.031"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["42", "1.5e-5"]


def test_a_place_on_the_map_says_what_its_cell_holds(results, figure):
    for axis, child in zip(figure.axes, results.children.values(), strict=False):
        data = child.dataset.sortby("learning_rate")
        runs = data["test_error"].values
        for (row, rate), (column, decay) in itertools.product(
            enumerate(data["learning_rate"].values), enumerate(data["weight_decay"].values)
        ):
            seeds = runs[row, column]
            if np.isnan(seeds).any():
                expected = "diverged"
            else:
                expected = f"{seeds.mean():.1f} % (± {np.std(seeds, ddof=1):.1f} over 3 seeds)"
            for dx, dy in [(0, 0), (-0.49, 0.49), (0.49, -0.49)]:
                assert axis.format_coord(column + dx, row + dy) == (
                    f"α = {rate:.3g}, λ = {decay:.3g}: {expected}"
                )


def test_beside_the_map_there_is_nothing_to_say(figure):
    for x, y in [(-0.6, 0), (0, -0.6), (11.6, 0), (0, 10.6)]:
        assert figure.axes[0].format_coord(x, y) == ""


def test_one_seed_has_no_deviation():
    axis = heatmaps(tree(Lion=grid(np.full((2, 2, 1), 40.0), [1, 2], [0, 1]))).axes[0]
    assert axis.format_coord(0, 1) == "α = 2, λ = 0: 40.0 %"


def test_the_last_epoch_of_a_sweep_is_drawn_like_its_errors_alone(results):
    swept = tree(
        **{
            name: child.dataset.assign(train_loss=child["test_error"] * 0)
            .expand_dims(epoch=[20, 40], axis=-1)
            .isel(epoch=-1)
            for name, child in results.children.items()
        }
    )
    drawn = (heatmaps(one, tolerance=2.5) for one in (results, swept))
    np.testing.assert_array_equal(*map(pixels, drawn))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_no_text_overlaps_another_or_leaves_the_figure(results, count):
    some = tree(**{name: realistic(name) for name in list(SLOPES)[:count]})
    drawn = heatmaps(some, tolerance=2.5)
    assert_legible(drawn)


def test_the_study_s_own_axes_are_legible_in_both_units():
    for coupling in (PAPER, LR):
        axes = {name: list(octaves(name, 8, coupling).values()) for name in SLOPES}
        drawn = heatmaps(tree(**{k: grid(np.ones((8, 8, 1)), *v) for k, v in axes.items()}))
        assert_legible(drawn)


def test_what_diverged_everywhere_is_drawn_and_said():
    nothing = realistic("AdamW") * np.nan
    drawn = heatmaps(tree(SGDW=realistic("SGDW"), AdamW=nothing), tolerance=2.5)
    assert drawn.axes[1].get_title() == "AdamW (decoupled)\nevery cell diverged"
    assert pixels(heatmaps(tree(AdamW=nothing))).shape[0] == 450


def test_figures_are_drawn_in_threads_and_without_pyplot(results):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = dict(mpl.rcParams)
    with ThreadPoolExecutor(2) as pool:
        drawn = list(pool.map(lambda _: heatmaps(results, tolerance=2.5), range(2)))
    assert pyplot.get_fignums() == []
    assert dict(mpl.rcParams) == before
    np.testing.assert_array_equal(*map(pixels, drawn))


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (tree(), "results has no children"),
        (
            tree(Adam=realistic("Adam").rename(test_error="loss")),
            r"results\['Adam'\] has no test_e",
        ),
        (tree(Adam=realistic("Adam").rename(seed="run")), r"results\['Adam'\].*dimensions.*got"),
        (tree(Adam=realistic("Adam").drop_vars("weight_decay")), "coordinates for"),
        (tree(Adam=realistic("Adam") + np.inf), "error must not be infinite"),
    ],
)
def test_bad_results_are_met_at_the_door(results, message):
    with pytest.raises(ValueError, match=message):
        heatmaps(results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cap": 10.0}, "cap must be finite and above the best error .* got 10.0"),
        ({"cap": np.inf}, "cap must be finite"),
        ({"circled": 0}, "circled must be finite and >= 1, got 0"),
        ({"tolerance": -1}, "tolerance must be finite and >= 0"),
    ],
)
def test_bad_options_are_met_at_the_door(results, options, message):
    with pytest.raises(ValueError, match=message):
        heatmaps(results, **options)
