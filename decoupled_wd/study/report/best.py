"""``best.json``: what a search chose, for programs to read."""

import math
from pathlib import Path

from optuna.distributions import FloatDistribution, IntDistribution

from decoupled_wd.study.report.pieces import replace_whole, strict_json
from decoupled_wd.study.tune.trials import ended_in
from decoupled_wd.study.tune.types import Tuned

BEST = "best.json"
NEAR = 0.02
"""The share of a range, in its own scale, within which a choice lies at its end."""


def write_best(out: Path, tuned: Tuned) -> None:
    """Writes every hyperparameter, the metric with its interval, and what they took.

    The file is replaced whole, and its JSON is strict: null for NaN.
    """
    estimate = tuned.estimate
    record = {
        **tuned.best,
        tuned.metric: estimate.value,
        f"{tuned.metric}_low": estimate.low,
        f"{tuned.metric}_high": estimate.high,
        "fresh_seeds": estimate.seeds,
        "finalists": {name: list(found) for name, found in spans(tuned).items()},
        "trials": len(ended_in(tuned.study)),
        "steps": tuned.steps,
        "seconds": round(tuned.seconds, 3),
    }
    replace_whole(out, {BEST: strict_json(record)})


def spans(tuned: Tuned) -> dict[str, tuple[float, float]]:
    """Returns the lowest and highest value of each hyperparameter among the finalists."""
    return {
        name: (float(tuned.finalists[name].min()), float(tuned.finalists[name].max()))
        for name in tuned.best
    }


def at_an_end(tuned: Tuned) -> list[str]:
    """Names the hyperparameters whose best value lies at an end of its range.

    A better one may lie beyond.
    """
    found, place = [], int(tuned.finalists["trial"][0])
    for name, each in tuned.study.get_trials(deepcopy=False)[place].distributions.items():
        # `tune` searches no other distributions
        assert isinstance(each, FloatDistribution | IntDistribution)
        scale, value = math.log if each.log else float, tuned.best[name]
        low, high, at = scale(each.low), scale(each.high), scale(value)
        if min(at - low, high - at) < NEAR * (high - low):
            found.append(name)
    return found
