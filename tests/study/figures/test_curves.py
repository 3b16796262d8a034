import itertools
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from drawn import assert_legible, pixels
from matplotlib.colors import to_rgb

from decoupled_wd.figures._style import TITLES
from decoupled_wd.study.figures.curves import bars, lines, scatter
from decoupled_wd.study.statistics import Estimate

EPOCHS = [1, 2, 4, 8]
LABELS = {"x": "epoch", "xlabel": "epochs", "ylabel": "test error (%)"}
DIMS = ("learning_rate", "weight_decay", "seed")


def curve(seeds=3, start=0, epochs=EPOCHS):
    noise = np.random.default_rng(start).uniform(0, 3, (len(epochs), seeds))
    values = start + 50 / np.asarray(epochs)[:, None] + noise
    return xr.DataArray(values, {"epoch": epochs}, ("epoch", "seed"))


def cells(error, loss=None):
    loss = np.linspace(0.1, 1, error.size).reshape(error.shape) if loss is None else loss
    metrics = {"train_loss": loss, "validation_error": error, "test_error": error + 1}
    coords = {DIMS[0]: np.arange(1, len(error) + 1), DIMS[1]: np.arange(error.shape[1])}
    return xr.Dataset({name: (DIMS, values) for name, values in metrics.items()}, coords)


def look(line):
    return line.get_color(), line.get_linestyle(), line.get_marker()


def entries(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_a_line_is_the_mean_and_its_band_the_extremes():
    values = curve()
    (axis,) = lines({"digits": {"AdamW": values}}, **LABELS).axes
    np.testing.assert_allclose(axis.lines[0].get_ydata(), values.values.mean(axis=1))
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), EPOCHS)
    band = axis.collections[0].get_paths()[0].vertices
    for epoch, row in zip(EPOCHS, values.values, strict=True):
        heights = band[band[:, 0] == epoch, 1]
        assert (heights.min(), heights.max()) == (row.min(), row.max())


def test_without_seeds_there_is_no_band():
    (axis,) = lines({"digits": {"AdamW": curve().isel(seed=0)}}, **LABELS).axes
    assert not axis.collections
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), curve().values[:, 0])


def test_a_diverged_seed_is_a_gap_and_not_a_better_mean():
    values = curve()
    values[2, 1] = np.nan
    (axis,) = lines({"digits": {"AdamW": values}}, **LABELS).axes
    np.testing.assert_array_equal(np.isnan(axis.lines[0].get_ydata()), [0, 0, 1, 0])


def test_neither_the_order_of_x_nor_of_the_dimensions_matters():
    turned = curve().isel(epoch=slice(None, None, -1)).transpose("seed", "epoch")
    drawn = [lines({"digits": {"AdamW": values}}, **LABELS) for values in (curve(), turned)]
    np.testing.assert_array_equal(*map(pixels, drawn))


def test_a_panel_for_each_title_and_one_legend():
    panels = {
        "mnist1d": {"restarts": curve(), "AdamW": curve(start=9)},
        "digits": {"AdamW": curve()},
    }
    figure = lines(panels, **LABELS)
    assert [axis.get_title() for axis in figure.axes] == ["mnist1d", "digits"]
    assert entries(figure) == ["restarts", "AdamW (decoupled)"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["epochs"] * 2
    assert [axis.get_ylabel() for axis in figure.axes] == ["test error (%)", ""]
    one, other = figure.axes[0].lines[1], figure.axes[1].lines[0]
    assert look(one) == look(other) != look(figure.axes[0].lines[0])


def test_an_optimiser_looks_the_same_in_every_figure():
    alone = lines({"a": {"Adam": curve()}}, **LABELS).axes[0].lines[0]
    among = {"first": curve(), "SGD": curve(), "Adam": curve()}
    assert look(lines({"a": among}, **LABELS).axes[0].lines[2]) == look(alone)
    dots = scatter({"Adam": cells(np.ones((2, 2, 1)))}, tolerance=1.0).axes[0].collections[0]
    assert to_rgb(dots.get_facecolor()[0][:3]) == to_rgb(alone.get_color())
    (whisker, *_) = bars({"a": {"Adam": Estimate(1, 0, 2)}}, ylabel="error").axes[0].lines
    assert whisker.get_color() == alone.get_color()


def test_many_lines_differ_by_more_than_colour():
    names = [*TITLES, *(f"line {i}" for i in range(24))]
    axis = lines({"a": {name: curve() for name in names}}, **LABELS).axes[0]
    assert len({look(line)[:2] for line in axis.lines}) == 28  # long lines have no markers
    assert len({look(line)[::2] for line in axis.lines}) == 28  # and clouds no line styles
    for one, other in itertools.pairwise(axis.lines):
        assert one.get_color() != other.get_color()
    first = lines({"a": {name: curve() for name in TITLES}}, **LABELS).axes[0].lines
    assert len({line.get_linestyle() for line in first}) == 4
    assert len({line.get_marker() for line in first}) == 4


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_axes_are_logarithmic_on_request_with_plain_numbers(log):
    figure = lines({"a": {"AdamW": curve(epochs=[1, 10, 100])}}, **LABELS, log=log)
    pixels(figure)
    (axis,) = figure.axes
    assert (axis.get_xscale(), axis.get_yscale()) == tuple(
        "log" if a in log else "linear" for a in "xy"
    )
    if "x" in log:
        shown = {t.get_text() for t in axis.get_xticklabels() if 1 <= t.get_position()[0] <= 100}
        assert {"1", "10", "100"} <= shown


def test_a_short_logarithmic_axis_has_several_numbers():
    losses = np.linspace(0.4, 0.5, 4).reshape(2, 2, 1)
    figure = scatter({"Adam": cells(np.ones((2, 2, 1)), losses)}, tolerance=1.0)
    pixels(figure)
    axis = figure.axes[0]
    low, high = axis.get_xlim()
    shown = [
        float(t.get_text()) for t in axis.get_xticklabels() if low <= t.get_position()[0] <= high
    ]
    assert len(shown) >= 3


def test_marks_are_dotted_verticals_in_their_panel():
    panels = {"a": {"AdamW": curve()}, "b": {"AdamW": curve()}}
    one, other = lines(panels, **LABELS, marks={"b": [2, 6]}).axes
    assert [line.get_linestyle() for line in one.lines] == ["-"]
    dotted = [line for line in other.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [2, 6]


def test_the_scatter_holds_the_cells_near_the_best_and_their_means():
    error = np.array([[[40.0, 42.0], [41.0, 44.0]], [[50.0, 50.0], [40.0, np.nan]]])
    loss = np.array([[[0.2, 0.4], [0.1, 0.3]], [[0.5, 0.5], [0.6, 0.6]]])
    figure = scatter({"Adam": cells(error, loss)}, tolerance=2.0)
    (dots,) = figure.axes[0].collections
    np.testing.assert_allclose(dots.get_offsets(), [(0.3, 42.0), (0.2, 43.5)])
    assert figure.axes[0].get_xscale() == "log"
    (fewer,) = scatter({"Adam": cells(error, loss)}, tolerance=1.0).axes[0].collections
    np.testing.assert_allclose(fewer.get_offsets(), [(0.3, 42.0)])


def test_near_the_best_is_seen_on_the_validation_set():
    runs = cells(np.array([[[40.0], [43.0]]]))
    runs["test_error"][0, 1, 0] = 10.0
    (dots,) = scatter({"Adam": runs}, tolerance=1.0).axes[0].collections
    assert dots.get_offsets()[:, 1] == [41.0]


def test_what_diverged_everywhere_is_an_empty_cloud():
    nothing = cells(np.full((2, 2, 1), np.nan))
    figure = scatter({"Adam": nothing, "AdamW": cells(np.ones((2, 2, 1)))}, tolerance=1.0)
    assert [len(dots.get_offsets()) for dots in figure.axes[0].collections] == [0, 4]
    assert entries(figure) == ["Adam + L2", "AdamW (decoupled)"]


def test_bars_are_points_with_the_interval_as_whiskers():
    groups = {
        "mnist1d": {"Adam": Estimate(3, 2, 5), "AdamW": Estimate(-1, -2, 0)},
        "digits": {"AdamW": Estimate(7, 6, 9)},
    }
    figure = bars(groups, ylabel="gain, points")
    (axis,) = figure.axes
    drawn = [line for line in axis.lines if line.get_xdata()[0] != line.get_xdata()[-1]]
    whiskers = [tuple(line.get_xdata()) for line in drawn]
    assert [pair for pair in whiskers if pair != (0, 1)] == [(2, 5), (-2, 0), (6, 9)]
    points = [line for line in axis.lines if line.get_linestyle() == "None"]
    assert [line.get_xdata()[0] for line in points] == [3, -1, 7]
    rows = [line.get_ydata()[0] for line in points]
    assert rows == sorted(set(rows))
    assert axis.yaxis_inverted()
    assert [t.get_text() for t in axis.get_yticklabels()] == ["mnist1d", "digits"]
    np.testing.assert_allclose(axis.get_yticks(), [np.mean(rows[:2]), rows[2]])
    assert entries(figure) == ["Adam + L2", "AdamW (decoupled)"]
    assert axis.get_xlabel() == "gain, points"


def test_what_was_not_measured_is_said_in_its_row():
    nan = float("nan")
    groups = {"a": {"Adam": Estimate(nan, nan, nan), "AdamW": Estimate(1, nan, nan)}}
    (axis,) = bars(groups, ylabel="error").axes
    (text,) = axis.texts
    (row,) = [line.get_ydata()[0] for line in axis.lines if line.get_label() == "Adam + L2"]
    assert (text.get_text(), text.get_position()[1]) == ("not measured", row)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_no_text_of_the_curves_overlaps_another_or_leaves_the_figure(count):
    names = [*TITLES, "restarts, T₀ = 10 % of the budget", "one cycle"]
    panel = {name: curve(start=5 * i) for i, name in enumerate(names)}
    figure = lines(
        {f"mnist1d, mlp without BN, {i}": panel for i in range(count)}, **LABELS, log="y"
    )
    assert len([axis for axis in figure.axes if axis.axison]) == count
    assert_legible(figure)


@pytest.mark.parametrize("count", [1, 3])
def test_no_text_of_the_bars_and_clouds_overlaps_another_or_leaves_the_figure(count):
    group = {name: Estimate(i, i - 1, i + 1) for i, name in enumerate(TITLES)}
    assert_legible(
        bars({f"a data set and its network {i}": group for i in range(count)}, ylabel="e")
    )
    clouds = {name: cells(np.ones((4, 4, 1))) for name in [*TITLES][:count]}
    assert_legible(scatter(clouds, tolerance=1.0))


def test_curves_are_drawn_in_threads_and_without_pyplot():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = dict(mpl.rcParams)
    with ThreadPoolExecutor(2) as pool:
        drawn = list(pool.map(lambda _: lines({"a": {"b": curve()}}, **LABELS), range(2)))
    assert pyplot.get_fignums() == []
    assert dict(mpl.rcParams) == before
    np.testing.assert_array_equal(*map(pixels, drawn))


@pytest.mark.parametrize(
    ("panels", "options", "message"),
    [
        ({}, {}, "panels is empty"),
        ({"a": {}}, {}, r"panels\['a'\] has no lines"),
        ({"a": {"b": curve().rename(epoch="step")}}, {}, r"panels\['a'\]\['b'\] must have the dim"),
        ({"a": {"b": curve().drop_vars("epoch")}}, {}, "with its coordinate"),
        ({"a": {"b": curve().expand_dims(extra=2)}}, {}, "at most 'seed' beside it; got"),
        ({"a": {"b": curve()}}, {"log": "z"}, "log must be '', 'x', 'y' or 'xy', got 'z'"),
        ({"a": {"b": curve(epochs=[0.5, 1]) - 0}}, {"marks": {"c": [1]}}, r"marks has \['c'\]"),
        ({"a": {"b": curve().assign_coords(epoch=[0, 1, 2, 3])}}, {"log": "x"}, "epoch <= 0"),
    ],
)
def test_bad_panels_are_met_at_the_door(panels, options, message):
    with pytest.raises(ValueError, match=message):
        lines(panels, **LABELS, **options)


def test_bad_results_and_groups_are_met_at_the_door():
    with pytest.raises(ValueError, match="results is empty"):
        scatter({}, tolerance=1.0)
    with pytest.raises(ValueError, match=r"results\['Adam'\] lacks train_loss; it has"):
        scatter({"Adam": cells(np.ones((2, 2, 1))).drop_vars("train_loss")}, tolerance=1.0)
    with pytest.raises(ValueError, match="groups is empty"):
        bars({}, ylabel="error")
    with pytest.raises(ValueError, match=r"groups\['a'\] has no estimates"):
        bars({"a": {}}, ylabel="error")
