"""``python tests/benchmarks/ridges.py``: which estimator of a ridge's slope errs least, at equal training.

Landscapes are made up, with known slopes from −1 to 0.25, valleys of different shapes, and the noise of the study's
runs. 568 runs go to each estimate: to all cells of the grid alike, or first to a pilot and then along its ridge.
How wide the intervals are is told there, and on MNIST-1D itself. Writes ``docs/ridges.md``.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from landscapes import Landscape, Runs, task
from scipy.stats import bootstrap
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.isotonic import IsotonicRegression

from decoupled_wd.study.claims.interaction import slope_of
from decoupled_wd.study.claims.optimizers import CONTENDERS
from decoupled_wd.study.claims.ridges import OFFSETS, ROWS, Valley, valley
from decoupled_wd.study.claims.tuning import at_the_end, grid_of
from decoupled_wd.study.report.pieces import markdown_table, number, with_ends
from decoupled_wd.study.statistics import Estimate, line_slope, over_seeds, ridge, valleys
from decoupled_wd.study.tasks.task import Run, Task, Training, runner
from decoupled_wd.study.tasks.task import task as task_of

TASK = task()
NAME, GRID, SEEDS = "Adam", 8, 8
WHOLE = 9
"""Seeds of the whole grid, some more runs than the others have."""
OUTPUT = Path(__file__).parents[2] / "docs" / "ridges.md"
Row = np.ndarray
Lowest = Callable[[Row, Row], float]
"""``lowest(y, error) -> the y of least error`` of one row."""


def parabola(y: Row, error: Row) -> float:
    """The vertex through the lowest point and its neighbours."""
    return float(
        np.log2(ridge([error], [1.0], 2.0**y, tolerance=np.inf, drop_edge=False).weight_decay[0])
    )


def isotonic(y: Row, error: Row) -> float:
    """The middle of the lowest stretch of the best curve that falls, then rises."""
    best = None
    for turn in range(len(y) + 1):
        parts = [
            IsotonicRegression(increasing=rises).fit_transform(y[part], error[part])
            for rises, part in ((False, slice(turn)), (True, slice(turn, None)))
            if len(y[part])
        ]
        curve = np.concatenate(parts)
        misfit = float(((curve - error) ** 2).sum())
        if best is None or misfit < best[0]:
            best = misfit, curve
    return float(y[best[1] <= best[1].min() + 1e-9].mean())


def cubic(y: Row, error: Row) -> float:
    """The minimum of a cubic through the row, errors beyond 6 points above the least cut off."""
    curve = np.polynomial.Polynomial.fit(y, np.minimum(error, error.min() + 6), 3)
    at = np.linspace(y[0], y[-1], 200)
    return float(at[curve(at).argmin()])


def by_row(lowest: Lowest) -> Callable[[Row, Row, Row], float]:
    """The slope of the least-squares line through what a row's estimator finds."""
    return lambda error, x, y: float(
        np.polyfit(x, [lowest(a, e) for a, e in zip(y, error, strict=True)], 1)[0]
    )


def gaussian_process(error: Row, x: Row, y: Row) -> float:
    """The same with the minima of a Gaussian process over α and λ."""
    places = np.stack([np.repeat(x, y.shape[1]), y.ravel()], axis=1)
    kernel = ConstantKernel(10.0) * RBF([2.0, 1.0], (0.3, 20)) + WhiteKernel(0.1)
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    process.fit(places, np.minimum(error, error.min() + 8).ravel())

    def lowest(row: int) -> float:
        at = np.linspace(y[row, 0], y[row, -1], 61)
        return float(at[process.predict(np.stack([np.full(61, x[row]), at], axis=1)).argmin()])

    return float(np.polyfit(x, [lowest(row) for row in range(len(x))], 1)[0])


def mean_shift(error: Row, x: Row, y: Row) -> float:
    """The study's: the middle of each valley."""
    return line_slope(x, valleys(error, y, tolerance=TASK.tolerance, width=0.7))


ALONG = {
    "row minima, a parabola through three points": by_row(parabola),
    "isotonic regression, falling and then rising": by_row(isotonic),
    "local regression, a cubic": by_row(cubic),
    "Gaussian process": gaussian_process,
    "mean shift in each valley": mean_shift,
}


def drawn(repeat: int) -> Landscape:
    """A landscape of any slope and shape."""
    chance = np.random.default_rng([11, repeat])
    return Landscape(
        chance.uniform(-1, 0.25),
        gain=chance.uniform(2, 4),
        steep=chance.uniform(5, 15),
        level=chance.uniform(-0.5, 0.5),
        center=chance.uniform(-1, 1),
    )


def trained(run: Run, where: Task, name: str) -> tuple[Callable[[Row], float], Valley]:
    """The slope of a whole grid, for any of its seeds, and what is trained along the ridge instead."""
    first = grid_of(where, name, "cosine", grid=GRID)
    seeds = range(WHOLE)
    whole = at_the_end(run, Training(where, first.make_optimizer, first.space, seeds=seeds))
    error = whole["test_error"].transpose("learning_rate", "weight_decay", "seed").values
    axes = [whole[name].values for name in ("learning_rate", "weight_decay")]
    along = valley(run, where, name, "cosine", grid=GRID, looks=(SEEDS,), look=0)
    return lambda drawn: ridge(error[..., drawn], *axes, tolerance=2.5).slope, along


def percentiles(statistic: Callable[[Row], float]) -> Estimate:
    """The study's first interval, of a bootstrap over seeds, which holds the truth too seldom."""
    found = bootstrap(
        (np.arange(WHOLE),),
        lambda drawn: statistic(drawn.astype(int)),
        vectorized=False,
        n_resamples=500,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(statistic(np.arange(WHOLE)), found.low, found.high)


def intervals(whole: Callable[[Row], float], along: Valley) -> dict[str, Estimate]:
    """The interval of a slope before and now."""
    return {
        "the whole grid, percentiles of a bootstrap": percentiles(whole),
        "the whole grid, jackknife": over_seeds(whole, WHOLE),
        "along the ridge, jackknife and open valleys": slope_of(along, 0.95),
    }


def estimates(repeat: int) -> tuple[dict[str, float], dict[str, Estimate]]:
    """How far each slope is from the truth, and the intervals less it, on one landscape."""
    landscape = drawn(repeat)
    whole, found = trained(Runs({NAME: landscape}, repeat), TASK, NAME)
    along = found.along
    mean = along["test_error"].mean("seed").values.reshape(ROWS, len(OFFSETS))
    x, y = (np.log2(along[n].values.reshape(mean.shape)) for n in ("learning_rate", "weight_decay"))
    slopes = {"the whole grid, row minima, Theil and Sen": whole(np.arange(WHOLE))}
    slopes |= {f"along the ridge, {name}": slope(mean, x[:, 0], y) for name, slope in ALONG.items()}
    truth = landscape.slope
    errors = {name: slope - truth for name, slope in slopes.items()}
    around = {
        name: Estimate(*(end - truth for end in each[:3]))
        for name, each in intervals(whole, found).items()
    }
    return errors, around


def of_errors(every: list[dict[str, float]]) -> str:
    """The table of how far estimates are from the truth."""

    def row(name: str) -> tuple[str, ...]:
        error = np.array([each[name] for each in every])
        error = error[np.isfinite(error)]
        root, worst = np.sqrt(np.mean(error**2)), np.quantile(np.abs(error), 0.99)
        return name, number(root, ".3f"), number(error.mean(), "+.3f"), number(worst, ".2f")

    what = f"estimator, {len(every)} landscapes"
    head = (what, "root mean square error", "bias", "worst of a hundred")
    return markdown_table(head, map(row, every[0]))


def of_widths(every: list[dict[str, Estimate]]) -> str:
    """The table of how wide the intervals are, and how often they hold the truth."""

    def row(name: str) -> tuple[str, ...]:
        low, high = np.array([each[name][1:3] for each in every]).T
        holds = np.mean((low <= 0) & (high >= 0))
        return name, number(np.median(high - low), ".2f"), f"{100 * holds:.1f} %"

    head = (f"interval at 95 %, {len(every)} landscapes", "median width", "holds the truth")
    return markdown_table(head, map(row, every[0]))


def of_contenders() -> str:
    """The table of intervals on MNIST-1D."""
    where, run = task_of("mnist1d", "mlp"), runner()
    found = {name: intervals(*trained(run, where, name)) for name in CONTENDERS}

    def row(name: str) -> tuple[str, ...]:
        return name, *map(with_ends, found[name].values())

    return markdown_table(("MNIST-1D, MLP", *found["Adam"]), map(row, found))


def main() -> None:
    """Simulates, trains, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        errors, around = zip(*map(estimates, range(options.repeats)), strict=True)
    tables = of_errors(list(errors)), of_widths(list(around)), of_contenders()
    options.output.write_text("\n".join(tables))


if __name__ == "__main__":
    main()
