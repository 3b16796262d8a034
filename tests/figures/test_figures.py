"""What the figures show: numbers by formulas of their own, labels, and the same from labelled arrays."""

import dataclasses
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import pytest
import xarray as xr
from drawn import assert_legible, pixels
from pictures import draw_page
from scipy.stats import theilslopes

import decoupled_wd as dwd
from decoupled_wd import figures
from decoupled_wd._ridges import ridge as find_ridge
from decoupled_wd.planning import Run, fit_timescale, plan

DOCS = Path(__file__).parents[2] / "docs"
RATES, DECAYS = 2.0 ** np.arange(-6, 1), 2.0 ** np.arange(-11, -1)
RUN = Run(6e-4, 524_288, 1e10, weight_decay=0.2, parameters=124e6, coupling="torch")
REFERENCE = Run(1e-3, 131_072, 2.5e9, weight_decay=0.1, parameters=30e6, coupling="torch")
BUDGETS = [2.5e9, 1e10, 4e10]


def valley(slope, seeds=3):
    """Errors around a line in log α and log λ, with noise."""
    x, y = np.log2(RATES)[:, None, None], np.log2(DECAYS)[None, :, None]
    noise = np.random.default_rng(seeds).normal(0, 0.2, (7, 10, seeds))
    return 40 + (y + 6.5 - slope * (x + 3)) ** 2 + 0.3 * (x + 3) ** 2 + noise


GRIDS = {name: (valley(s), RATES, DECAYS) for name, s in {"Adam": -1, "AdamW": 0}.items()}


def plans(reference=REFERENCE, **options):
    sizes = [dataclasses.replace(RUN, dataset_size=size) for size in BUDGETS]
    return [plan(run, reference, **options) for run in sizes]


def described(weight_decay=1e-3):
    params = {
        "up": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)},
        "down": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
    }
    return dwd.describe(params, weight_decay, mask=dwd.masks.matrices())


def history(c=1e-4, angle=0.003, steps=100):
    return SimpleNamespace(angle=np.full(steps, angle), c=np.full(steps, c))


DRAWN = {
    "influence": lambda: figures.influence({"constant": dwd.theory.influence(1e-3, 1e-3, 5000)}),
    "rotation": lambda: figures.rotation({"kernel": history(), "embedding": history(2e-4)}),
    "half_lives": lambda: figures.half_lives(described()),
    "heatmap": lambda: figures.heatmap(GRIDS),
    "ridge": lambda: figures.ridge(GRIDS),
    "plan": lambda: figures.plan(plans()),
}


def by_label(axis):
    return {line.get_label(): line for line in axis.lines}


def entries(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


# all of them


def test_every_figure_is_drawn_here_and_has_a_picture_on_its_page():
    assert sorted(DRAWN) == sorted(figures.__all__)
    page = (DOCS / "figures.md").read_text()
    for name in figures.__all__:
        assert f"dwd.figures.{name}(" in page
        assert f"](figures/{name}.png)" in page
        assert (DOCS / "figures" / f"{name}.png").exists()


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_overlaps_another_or_leaves_the_figure(name):
    assert_legible(DRAWN[name]())


@pytest.mark.parametrize("name", DRAWN)
def test_every_axis_says_what_it_shows(name):
    figure = DRAWN[name]()
    for axis in figure.axes[: 2 if name == "heatmap" else 1]:
        assert axis.get_xlabel()
        assert axis.get_ylabel() or name == "half_lives"


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_drawn_in_threads_and_without_pyplot(name):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = dict(mpl.rcParams)
    with ThreadPoolExecutor(2) as pool:
        drawn = list(pool.map(lambda _: DRAWN[name](), range(2)))
    assert pyplot.get_fignums() == []
    assert dict(mpl.rcParams) == before
    np.testing.assert_array_equal(*map(pixels, drawn))


def test_the_figures_need_matplotlib_alone():
    program = """
import sys, numpy as np, decoupled_wd as dwd
assert "matplotlib" not in sys.modules
assert dwd.figures.__name__ == "decoupled_wd.figures"
rates, decays = 2.0 ** np.arange(-3, 1), 2.0 ** np.arange(-6, 1)
grids = {"SGD": (np.log(np.outer(rates, decays) / 0.1) ** 2, rates, decays)}
dwd.figures.heatmap(grids), dwd.figures.ridge(grids)
print(sorted({"xarray", "scipy", "matplotlib.pyplot", "decoupled_wd.study"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_pictures_of_the_page_are_what_its_code_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_page(tmp_path)
    for name in figures.__all__:
        kept, drawn = (
            mpl.image.imread(folder / f"{name}.png") for folder in (DOCS / "figures", tmp_path)
        )
        assert kept.shape == drawn.shape, name
        # fonts and processors may differ
        assert np.abs(kept - drawn).mean() < 0.03, name


@pytest.mark.parametrize("label", ["_up/kernel", "a$b", "(bias$|scale$)", "x^{2$}$", 3])
def test_any_label_is_written_as_it_is(label):
    grid = {label: GRIDS["Adam"]}
    drawn = [
        figures.influence({label: dwd.theory.influence(1e-3, 1e-3, 50)}),
        figures.rotation({label: history()}),
        figures.half_lives({label: 3.0}),
        figures.heatmap(grid),
        figures.ridge(grid, tolerance=9),
    ]
    for figure in drawn:
        pixels(figure)
        (axis, *_), legends = figure.axes, figure.legends
        texts = [text.get_text() for legend in legends for text in legend.get_texts()]
        texts += [axis.get_title(), *(text.get_text() for text in axis.get_yticklabels())]
        assert any(str(label) in text.replace("\\$", "$") for text in texts)


# influence


def test_a_constant_decay_leaves_a_geometric_series():
    c, steps = 1e-2, 400
    (axis,) = figures.influence({"run": dwd.theory.influence(1e-3, c, steps)}).axes
    line, dot = axis.lines
    left = (1 - c) ** np.arange(steps - 1, -1, -1.0)
    np.testing.assert_array_equal(line.get_xdata(), np.arange(steps))
    np.testing.assert_allclose(line.get_ydata(), steps * left / left.sum(), rtol=1e-9)
    # half of the weights are made in the steps from here on
    half = int(np.ceil(np.log1p(-0.5 * (1 - (1 - c) ** steps)) / np.log1p(-c)))
    assert line.get_label() == f"run: half from the last {half} steps"
    assert dot.get_xdata() == [steps - half]
    assert (axis.get_xlabel(), axis.get_ylabel()) == (
        "step of the run",
        "share of a step, × average",
    )


def test_long_runs_are_drawn_in_bins_that_keep_the_sum():
    memory = dwd.theory.influence(optax.cosine_decay_schedule(1e-3, 100_003), 1e-4, 100_003)
    (axis,) = figures.influence({"long": memory}).axes
    steps, density = axis.lines[0].get_data()
    assert len(steps) == 500
    edges = np.linspace(0, 100_003, 501).astype(int)
    assert np.sum(density * np.diff(edges)) == pytest.approx(100_003)
    np.testing.assert_allclose(density[:3] * np.diff(edges)[:3] / 100_003, [
        memory.shares[a:b].sum() for a, b in itertools.pairwise(edges[:4])
    ])  # fmt: skip


def test_shares_may_be_numbers_or_labelled():
    shares = dwd.theory.influence(1e-3, 1e-2, 400).shares
    kinds = [shares, shares.tolist(), jnp.asarray(shares), xr.DataArray(shares, dims="step")]
    drawn = [pixels(figures.influence({"a": kind})) for kind in kinds]
    for other in drawn[1:]:
        np.testing.assert_array_equal(drawn[0], other)


# rotation


@pytest.mark.parametrize("window", [1, 7])
def test_the_ratio_is_of_averages_over_the_window(window):
    rng = np.random.default_rng(0)
    row = SimpleNamespace(angle=rng.uniform(0.001, 0.01, 50), c=np.linspace(1e-4, 1e-3, 50))
    (axis,) = figures.rotation({"kernel": row}, window=window).axes
    predicted = np.sqrt(2 * row.c * 0.1 / 1.9)
    steps = [np.arange(i, i + window) for i in range(50 - window + 1)]
    line = by_label(axis)["kernel"]
    np.testing.assert_allclose(line.get_xdata(), [s.mean() for s in steps])
    expected = [row.angle[s].mean() / predicted[s].mean() for s in steps]
    np.testing.assert_allclose(line.get_ydata(), expected)
    np.testing.assert_array_equal(by_label(axis)["predicted"].get_ydata(), [1, 1])


def test_what_does_not_decay_has_no_prediction():
    rows = {"kernel": history(), "bias": history(c=0.0)}
    figure = figures.rotation(rows)
    assert entries(figure) == ["kernel", "predicted"]
    # at the end of a schedule there is nothing to predict either
    row = history()
    row.c[50:] = 0
    ratio = figures.rotation({"kernel": row}, window=1).axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(np.isnan(ratio), np.arange(100) >= 50)


def test_another_optimiser_has_another_prediction():
    (axis,) = figures.rotation({"kernel": history()}, predicted=lambda c: 30 * c).axes
    np.testing.assert_allclose(by_label(axis)["kernel"].get_ydata(), 0.003 / (30 * 1e-4))


def test_a_scanned_record_is_drawn_as_it_is():
    optimizer = dwd.record(dwd.adamw(1e-3, 1e-2, mask=dwd.masks.matrices()))
    params = {"bias": jnp.ones(3), "kernel": jnp.ones((2, 3))}

    def step(carry, key):
        params, state = carry
        gradients = jax.tree.map(lambda p: jax.random.normal(key, p.shape), params)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), state.leaves

    keys = jax.random.split(jax.random.key(0), 40)
    (params, state), leaves = jax.lax.scan(step, (params, optimizer.init(params)), keys)
    rows = dwd.recorded(state._replace(leaves=leaves), params)
    figure = figures.rotation(rows, window=1)
    assert entries(figure) == ["kernel", "predicted"]
    measured = np.asarray(rows["kernel"].angle, np.float64)
    expected = measured / np.sqrt(2 * 1e-2 * 0.1 / 1.9)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), expected, rtol=1e-6)
    labelled = xr.Dataset({"angle": ("step", measured), "c": ("step", np.full(40, 0.01))})
    again = figures.rotation({"kernel": labelled}, window=1).axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(again, expected, rtol=1e-6)


# half-lives


def test_a_bar_ends_at_the_half_life_and_leaves_alike_share_one():
    (axis,) = figures.half_lives(described()).axes
    (bar,) = axis.patches
    assert bar.get_width() == pytest.approx(np.log(0.5) / np.log(1 - 1e-3))
    labels = [text.get_text() for text in axis.get_yticklabels()]
    assert labels == ["down/bias and 1 more: not a matrix", "down/kernel and 1 more: matrix"]
    assert bar.get_y() + bar.get_height() / 2 == pytest.approx(1)
    assert [text.get_text().strip() for text in axis.texts] == ["does not decay", "693"]
    assert axis.get_xscale() == "log"
    assert axis.get_xlabel() == "half-life in steps at the peak"


def test_half_lives_may_be_numbers():
    given = {"fast": 3, "slow": xr.DataArray(2e6), "never": np.inf, "at once": 0.0}
    (axis,) = figures.half_lives(given).axes
    assert [bar.get_width() for bar in axis.patches] == [3, 2e6]
    words = ["3", "2,000,000", "does not decay", "one step removes it"]
    assert [text.get_text().strip() for text in axis.texts] == words


def test_what_is_not_trained_has_no_row():
    params = {"kernel": jnp.ones((3, 4)), "steps": jnp.array(3)}
    (axis,) = figures.half_lives(dwd.describe(params, 1e-3)).axes
    assert len(axis.get_yticklabels()) == 1


# heat maps and ridges


def test_the_slope_without_scipy_is_scipy_s():
    for error, rates, decays in GRIDS.values():
        found = find_ridge(error, rates, decays, tolerance=9)
        expected = theilslopes(np.log(found.weight_decay), np.log(found.learning_rate)).slope
        assert found.slope == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("draw", [figures.heatmap, figures.ridge])
def test_numbers_and_labelled_arrays_are_drawn_alike(draw):
    dims = ("learning_rate", "weight_decay", "seed")
    labelled = {
        name: xr.DataArray(error, {dims[0]: rates, dims[1]: decays}, dims)
        .transpose("seed", "weight_decay", "learning_rate")
        .sortby("weight_decay", ascending=False)
        for name, (error, rates, decays) in GRIDS.items()
    }
    np.testing.assert_array_equal(*(pixels(draw(grids)) for grids in (GRIDS, labelled)))


def test_seeds_need_not_be_told_apart():
    means = {name: (error.mean(axis=2), *axes) for name, (error, *axes) in GRIDS.items()}
    one, other = (figures.heatmap(grids).axes[0] for grids in (GRIDS, means))
    np.testing.assert_allclose(*(axis.images[0].get_array() for axis in (one, other)))
    assert "over 3 seeds" in one.format_coord(0, 0)
    assert "seeds" not in other.format_coord(0, 0)


def test_losses_are_written_with_the_digits_that_tell_them_apart():
    losses = 3.2 + (valley(0) - 40) / 100
    options = {"name": "validation loss", "unit": "", "tolerance": 0.1}
    figure = figures.heatmap({"AdamW": (losses, RATES, DECAYS)}, **options)
    assert figure.axes[-1].get_ylabel() == "validation loss"
    low, cap = figure.axes[0].images[0].get_clim()
    assert low == losses.mean(axis=2).min()
    # the next tenth above 60 % of the cells
    share = (losses.mean(axis=2) <= cap - 0.1).mean()
    assert f"{cap:g}" == "3.4"
    assert share <= 0.6 <= (losses.mean(axis=2) <= cap).mean()
    assert figure.axes[0].get_title().splitlines()[1].startswith(f"best {low:.2f}, ridge")
    assert f": {losses[0, 0].mean():.2f} (± " in figure.axes[0].format_coord(0, 0)


def test_a_cap_of_0_and_a_whole_number_of_rings_are_taken_as_they_are():
    scores = {"AdamW": (valley(0) - 60, RATES, DECAYS)}
    figure = figures.heatmap(scores, cap=0, circled=10.0)
    assert figure.axes[0].images[0].get_clim()[1] == 0
    assert entries(figure)[0] == "10 best cells"
    with pytest.raises(ValueError, match="circled must be a whole number"):
        figures.heatmap(scores, circled=2.5)


def test_the_ridge_s_dots_line_and_slope_are_the_found_ones():
    figure = figures.ridge(GRIDS, tolerance=2)
    (axis,) = figure.axes
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    for number, (name, grid) in enumerate(GRIDS.items()):
        line, dots = axis.lines[2 * number : 2 * number + 2]
        found = find_ridge(*grid, tolerance=2)
        np.testing.assert_allclose(dots.get_data(), found[:2])
        (x, y) = np.log(line.get_data())
        assert (y[-1] - y[0]) / (x[-1] - x[0]) == pytest.approx(found.slope, abs=1e-9)
        assert line.get_label().startswith(figures._style.TITLES[name])
        assert f"slope {found.slope:+.2f}".replace("-", "−") in line.get_label()
    grey = [line for line in axis.lines if line.get_color() == "0.6"]
    for line in grey:
        np.testing.assert_allclose(np.ptp(np.prod(line.get_data(), axis=0)), 0, atol=1e-12)
    assert entries(figure)[-1] == "the same α·λ"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("learning rate α", "best weight decay λ")


def test_an_optimiser_without_a_ridge_has_no_line():
    flat = (np.full((7, 10), 90.0), RATES, DECAYS)
    assert entries(figures.ridge(GRIDS | {"Lion": flat}))[:-1] == entries(figures.ridge(GRIDS))[:-1]


# plans


def test_every_rule_s_line_is_its_weight_decay_at_every_budget():
    every = plans()
    # in any order
    figure = figures.plan(every[::-1])
    (axis,) = figure.axes
    lines = by_label(axis)
    for row in every[0].rows:
        rows = [{r.rule: r for r in one.rows}[row.rule] for one in every]
        np.testing.assert_array_equal(lines[row.rule].get_xdata(), BUDGETS)
        np.testing.assert_array_equal(lines[row.rule].get_ydata(), [r.weight_decay for r in rows])
    assert set(entries(figure)) == {row.rule for row in every[0].rows}
    assert axis.get_xlabel() == "points or tokens seen in the run"
    assert axis.get_ylabel() == "weight decay λ (a step removes λ·lr)"


def test_marks_outside_the_range_of_a_rule_are_hollow():
    every = plans()
    (axis,) = figures.plan(every).axes
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "white"]
    shown = sorted(tuple(place) for line in hollow for place in zip(*line.get_data(), strict=True))
    outside = [
        (one.run.data_seen, row.weight_decay) for one in every for row in one.rows if row.outside
    ]
    assert outside
    assert shown == sorted(outside)


def test_a_rule_that_says_nothing_of_a_budget_has_a_gap():
    every = plans()
    every[1] = plan(dataclasses.replace(RUN, parameters=None), REFERENCE)
    line = by_label(figures.plan(every).axes[0])["Power Lines"]
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False, True, False])


def test_one_plan_is_drawn_too():
    (axis,) = figures.plan(plans()[0]).axes
    assert {len(line.get_xdata()) for line in by_label(axis).values()} <= {0, 1}


def test_a_fit_of_one_s_own_has_its_interval():
    best = {1e9: 0.4, 4e9: 0.22, 16e9: 0.1}
    tuned = [
        Run(1e-3, 131_072, d, weight_decay=lam, parameters=30e6, coupling="torch")
        for d, lam in best.items()
    ]
    every = plans(fitted=fit_timescale(tuned))
    (axis,) = figures.plan(every).axes
    (band,) = axis.collections
    vertices = band.get_paths()[0].vertices
    for one in every:
        (row,) = (row for row in one.rows if row.rule == "fitted")
        heights = vertices[vertices[:, 0] == one.run.data_seen, 1]
        ends = row.weight_decay_low, row.weight_decay_high
        np.testing.assert_allclose((heights.min(), heights.max()), ends)
