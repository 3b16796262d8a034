"""``python tests/benchmarks/ridges.py``: which estimator of a ridge's slope errs least, at equal training.

Landscapes are made up, with known slopes from −1 to 0.25, valleys of different shapes, and the noise of the study's
runs. 568 runs go to each estimate: to all cells of the grid alike, or first to a pilot and then along its ridge.
Writes ``docs/ridges.md``.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from landscapes import Landscape, Runs, task
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.isotonic import IsotonicRegression

from decoupled_wd.study.claims.ridges import OFFSETS, ROWS, valley
from decoupled_wd.study.claims.tuning import at_the_end, grid_of
from decoupled_wd.study.statistics import line_slope, ridge, valleys
from decoupled_wd.study.tasks.task import Training

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


def errors_of(repeat: int) -> dict[str, float]:
    """How far each estimate is from the truth, on one landscape."""
    landscape = drawn(repeat)
    run = Runs({NAME: landscape}, repeat)
    first = grid_of(TASK, NAME, "cosine", grid=GRID)
    whole = at_the_end(run, Training(TASK, first.make_optimizer, first.space, seeds=range(WHOLE)))
    error = whole["test_error"].transpose("learning_rate", "weight_decay", "seed").values
    rates, decays = (whole[name].values for name in ("learning_rate", "weight_decay"))
    found = {
        "the whole grid, row minima, Theil and Sen": ridge(
            error, rates, decays, tolerance=2.5
        ).slope
    }
    along = valley(run, TASK, NAME, "cosine", grid=GRID, looks=(SEEDS,), look=0).along
    mean = along["test_error"].mean("seed").values.reshape(ROWS, len(OFFSETS))
    x, y = (np.log2(along[n].values.reshape(mean.shape)) for n in ("learning_rate", "weight_decay"))
    found |= {f"along the ridge, {name}": slope(mean, x[:, 0], y) for name, slope in ALONG.items()}
    return {name: slope - landscape.slope for name, slope in found.items()}


def main() -> None:
    """Simulates, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        every = [errors_of(repeat) for repeat in range(options.repeats)]
    lines = [
        f"| estimator, {options.repeats} landscapes | root mean square error | bias | worst of a hundred |"
    ]
    lines.append("| --- | --- | --- | --- |")
    for name in every[0]:
        error = np.array([each[name] for each in every])
        error = error[np.isfinite(error)]
        worst = np.quantile(np.abs(error), 0.99)
        lines.append(
            f"| {name} | {np.sqrt(np.mean(error**2)):.3f} | {error.mean():+.3f} | {worst:.2f} |".replace(
                "-0", "−0"
            )
        )
    options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
