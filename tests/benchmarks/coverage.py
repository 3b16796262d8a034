"""``python tests/benchmarks/coverage.py``: how often the study's intervals hold the truth, and how often it errs.

Landscapes and searches are made up, with known truth and the noise of the study's runs; what is measured on them
is measured by the study's own code. Writes ``docs/coverage.md``.
"""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from landscapes import PART, RUN, START, Landscape, Runs, task

from decoupled_wd.study.claims import best_of, generalization
from decoupled_wd.study.claims.best_of import Trials
from decoupled_wd.study.claims.budget import judge
from decoupled_wd.study.claims.interaction import slope_of
from decoupled_wd.study.claims.restarts import epochs_to, smoothed
from decoupled_wd.study.claims.ridges import valley
from decoupled_wd.study.claims.superconvergence import speedup
from decoupled_wd.study.claims.tuning import difference, halton, mean, tuned
from decoupled_wd.study.claims.verdicts import DECIDED, FAILS, HOLDS, SAME, Verdict, level
from decoupled_wd.study.report.pieces import markdown_table, number
from decoupled_wd.study.statistics import Estimate, over_seeds

SEEDS = (5, 8, 16, 32)
OUTPUT = Path(__file__).parents[2] / "docs" / "coverage.md"
TASK = task()
STEEP = {"Adam": Landscape(-0.9, least=40.0), "AdamW": Landscape(0.0, least=39.0)}
Kind = Callable[[int, int], tuple[Estimate, float]]
"""``kind(seeds, repeat) -> estimate, truth``; where no truth is known it is NaN, and all repeats' mean is taken."""


def of_mean(seeds: int, repeat: int) -> tuple[Estimate, float]:
    """The mean of tuned errors."""
    errors = np.random.default_rng([1, repeat, seeds]).normal(40, 0.8, seeds)
    return mean(errors, 0.95), 40.0


def of_difference(seeds: int, repeat: int) -> tuple[Estimate, float]:
    """The difference between errors in pairs, which share their starts."""
    chance = np.random.default_rng([2, repeat, seeds])
    start = chance.normal(0, 0.35, seeds)
    ours, theirs = (start + chance.normal(at, 0.75, seeds) for at in (39, 40))
    return difference(theirs, ours, 0.95), 1.0


def of_tuned(seeds: int, repeat: int) -> tuple[Estimate, float]:
    """The difference between tuned errors, pilot and search of each repeat anew."""
    run = Runs(STEEP, repeat)
    worth = {}
    for name in STEEP:
        found = valley(run, TASK, name, "cosine", grid=8, looks=(seeds,), look=0)
        worth[name] = tuned(run, found.training, found.along, (seeds,), 0)
    return difference(worth["Adam"], worth["AdamW"], 0.95), np.nan


def tried(landscape: Landscape, searches: int, chance: np.random.Generator) -> Trials:
    """Searches of 16 trials over α and λ, octaves around the middle, as many as claim (vi) has."""
    box = {"learning_rate": (2.0**-5, 2.0**5), "weight_decay": (2.0**-4.5, 2.0**4.5)}
    points = [
        np.log2(list(halton(16, int(chance.integers(2**31)), box).values()))
        for _ in range(searches)
    ]
    clean = np.stack([landscape.error(*each) for each in points])
    run = chance.normal(0, START, (searches, 1)) + chance.normal(0, RUN, clean.shape)
    return Trials(*(clean + run + chance.normal(0, PART, (2, *clean.shape))))


def of_searches(searches: int, repeat: int) -> tuple[Estimate, float]:
    """The difference between what searches of 16 trials end with."""
    adam, adamw = (
        tried(landscape, searches, np.random.default_rng([7, repeat, searches, len(name)]))
        for name, landscape in STEEP.items()
    )
    return best_of.gain(adam, adamw, 0.95), np.nan


def of_slope(name: str, gain: float = 3.0) -> Kind:
    """The slope of a ridge, the pilot of each repeat anew; the best λ gains so many points over none."""
    landscapes = {name: replace(STEEP[name], gain=gain)}

    def slope(seeds: int, repeat: int) -> tuple[Estimate, float]:
        run = Runs(landscapes, repeat)
        found = valley(run, TASK, name, "cosine", grid=8, looks=(seeds,), look=0)
        return slope_of(found, 0.95), STEEP[name].slope

    return slope


def of_matched(seeds: int, repeat: int) -> tuple[Estimate, float]:
    """The gain at equal training loss."""
    run = Runs(STEEP, repeat)
    both = [valley(run, TASK, n, "cosine", grid=8, looks=(seeds,), look=0).along for n in STEEP]
    return generalization.matched(*both, TASK.tolerance, 0.95), np.nan


def of_exponent(*gains: float) -> Kind:
    """The exponent of the best λ over the number of steps, where it gains so many points at each."""
    octaves = np.array([8.0, 10.0, 12.0])

    def exponent(seeds: int, repeat: int) -> tuple[Estimate, float]:
        chance = np.random.default_rng([3, repeat, seeds])
        # half octaves, wherever the best λ lies between two of them
        decays = np.arange(-9, 5.5, 0.5) + chance.uniform(-0.25, 0.25)
        clean = [
            Landscape(-0.4, gain=gain, center=10, level=4).error(at, decays)
            for gain, at in zip(gains, octaves, strict=True)
        ]
        runs = np.stack(clean)[..., None] + chance.normal(0, 0.75, (3, decays.size, seeds))
        error = xr.DataArray(
            runs,
            {"steps": 2.0**octaves, "weight_decay": 2.0**decays},
            ("steps", "weight_decay", "seed"),
        )
        return judge(error, "", TASK.tolerance, (seeds,))[0].estimate, -0.4

    return exponent


def of_speed_up(searches: int, repeat: int) -> tuple[Estimate, float]:
    """The log2 ratio of epochs between two curves of what searches of 16 trials end with."""
    chance = np.random.default_rng([4, repeat, searches])
    slow, fast = (
        {
            epochs: tried(
                Landscape(0.0, least=60 - 4 * (np.log2(epochs) + ahead)), searches, chance
            )
            for epochs in (5, 10, 20, 40)
        }
        for ahead in (0.0, 0.4)
    )
    return speedup(slow, fast, 0.95), 0.4


def of_restart(seeds: int, repeat: int) -> tuple[Estimate, float]:
    """The log2 ratio of the epochs after which one curve is as low as the other at a restart."""
    chance, epochs = np.random.default_rng([5, repeat, seeds]), np.arange(5, 155, 5)
    falls = 60 - 5 * np.log2(epochs / 5)
    curve = falls + chance.normal(0, 0.6, (seeds, 1)) + chance.normal(0, 0.8, (seeds, 30))
    at_restart = 60 - 5 * np.log2(12) + chance.normal(0, 0.9, seeds)

    def ratio(drawn: np.ndarray) -> float:
        reached = epochs_to(
            float(at_restart[drawn].mean()), smoothed(curve[drawn].mean(0), epochs), epochs
        )
        return float(np.log2(reached / 30))

    return over_seeds(ratio, seeds), float(
        np.log2(epochs_to(60 - 5 * np.log2(12), falls, epochs) / 30)
    )


KINDS: dict[str, Kind] = {
    "mean": of_mean,
    "paired difference": of_difference,
    "tuned difference, with the luck of the search": of_tuned,
    "difference between the best of 16 trials, in searches": of_searches,
    "gain at equal training loss": of_matched,
    "slope of a ridge, −0.9": of_slope("Adam"),
    "slope of a ridge, 0": of_slope("AdamW"),
    "slope of a ridge, −0.9, where decay gains little": of_slope("Adam", 1.0),
    "exponent": of_exponent(3.0, 3.0, 3.0),
    "exponent, where decay gains little": of_exponent(1.0, 1.0, 1.0),
    "exponent, where it gains nothing at the fewest steps": of_exponent(0.0, 3.0, 3.0),
    "exponent, where it gains nothing at all": of_exponent(0.0, 0.0, 0.0),
    "speed-up (log2), super-convergence, in searches": of_speed_up,
    "speed-up (log2), restarts": of_restart,
}


def coverage(kind: Kind, seeds: int, repeats: int) -> tuple[float, float]:
    """The share of intervals that hold the truth, and their median width, which may be infinite."""
    found = [kind(seeds, repeat) for repeat in range(repeats)]
    typical = float(np.mean([estimate.value for estimate, _ in found]))
    inside = [e.low <= (typical if np.isnan(truth) else truth) <= e.high for e, truth in found]
    return float(np.mean(inside)), float(np.median([e.high - e.low for e, _ in found]))


def wrong_decisions(effect: float, margin: float, looks: tuple[int, ...], repeats: int) -> float:
    """The share of statements ``gain > 0`` that any look decides wrongly, if this is the gain."""
    wrong = 0
    for repeat in range(repeats):
        gain = np.random.default_rng([6, repeat]).normal(effect, 1.1, looks[-1])
        for seeds in looks:
            estimate = mean(gain[:seeds], level(looks))
            verdict = Verdict("", "", "", estimate, ">", 0.0, margin, len(looks)).verdict
            if verdict in DECIDED:
                false = {HOLDS: effect <= 0, FAILS: effect >= 0, SAME: abs(effect) >= margin}
                wrong += false[verdict]
                break
    return wrong / repeats


def of_coverage(repeats: int) -> str:
    """The table of how often intervals hold the truth."""

    def row(name: str, kind: Kind) -> tuple[str, ...]:
        found = [coverage(kind, seeds, repeats) for seeds in SEEDS]
        print(name, found, flush=True)
        return name, *(f"{100 * c:.1f} % (width {number(w, '.2f')})" for c, w in found)

    head = (f"interval of 95 %, {repeats} times each", *(f"{n} seeds" for n in SEEDS))
    return markdown_table(head, itertools.starmap(row, KINDS.items()))


def of_decisions(repeats: int) -> str:
    """The table of how often a decision is wrong."""

    def row(name: str, effect: float) -> tuple[str, str]:
        wrong = wrong_decisions(effect, 1.0, (8, 16, 32), 10 * repeats)
        return name, f"{100 * wrong:.1f} %"

    effects = {
        "no gain at all": 0.0,
        "a gain of just the margin": 1.0,
        "a loss of just the margin": -1.0,
    }
    head = ("wrong decisions over all looks, the margin 1 point", "8, 16 and 32 seeds")
    return markdown_table(head, itertools.starmap(row, effects.items()))


def main() -> None:
    """Simulates, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    tables = of_coverage(options.repeats), of_decisions(options.repeats)
    options.output.write_text("\n".join(tables))


if __name__ == "__main__":
    main()
