"""Searches whose landscape is known: a valley of test error over α and λ, with the noise of runs."""

import numpy as np
import optuna
import xarray as xr
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from decoupled_wd.study.statistics import over_seeds
from decoupled_wd.study.tune.types import Tuned

SPACE = {
    "learning_rate": FloatDistribution(2.0**-13, 0.5, log=True),
    "weight_decay": FloatDistribution(2.0**-16, 2.0**-5, log=True),
}
BEST = {"learning_rate": 2.0**-7, "weight_decay": 2.0**-10}
"""Where the error of `error` is lowest, whatever the slope."""


def error(rate, decay, slope=-1.0):
    """The error without noise, lowest along ``log2 λ = −10 + slope·(log2 α + 7)``."""
    x, y = np.log2(rate) + 7, np.log2(decay) + 10
    above = y - slope * x
    # steeper above the ridge than below, and nowhere a quadratic
    valley = np.where(above > 0, above**2 / (1 + 0.2 * above), 3 * (1 - np.exp(-(above**2) / 8)))
    return np.minimum(5 + 0.15 * x**2 + valley, 60.0)


def places(count, seed, slope=-1.0):
    """Places ``[count, 2]``, half over the whole space and half around the ridge, as searches do."""
    chance = np.random.default_rng(seed)
    low, high = (np.log2([getattr(d, end) for d in SPACE.values()]) for end in ("low", "high"))
    wide = chance.uniform(low, high, (count // 2, 2))
    x = chance.normal(-7, 1.5, count - count // 2)
    near = np.stack([x, -10 + slope * (x + 7) + chance.normal(0, 1.2, len(x))], axis=1)
    return 2.0 ** np.clip(np.concatenate([wide, near]), low, high)


def trials(at, values, names=tuple(SPACE), steps=1000):
    """Trials as a search leaves them: a NaN is one that diverged, and None one that was stopped."""
    space = {name: SPACE.get(name, FloatDistribution(0.0, 1.0)) for name in names}
    for place, value in zip(at, values, strict=True):
        params = dict(zip(names, map(float, place), strict=True))
        whole = value is not None and np.isfinite(value)
        yield create_trial(
            state=TrialState.COMPLETE if whole else TrialState.PRUNED,
            value=float(value) if whole else None,
            params=params,
            distributions=space,
            user_attrs={"steps": steps if whole else steps // 3},
            intermediate_values={1: 50.0 if value is None else float(value)},
        )


def tuned(at, values, names=tuple(SPACE), *, metric="test_error", higher=False, seeds=8, **extra):
    """What such a search hands on, with finalists whose seeds scatter."""
    direction = "maximize" if higher else "minimize"
    study = optuna.create_study(direction=direction)
    study.add_trials(list(trials(at, values, names)))
    whole = [each for each in study.trials if each.value is not None]
    best = sorted(whole, key=lambda each: -each.value if higher else each.value)[:4]
    noise = np.random.default_rng(0).normal(0, 0.2, (len(best), seeds))
    runs = np.array([[each.value] for each in best]) + noise
    over = {name: ("trial", [each.params[name] for each in best]) for name in names}
    finalists = xr.Dataset({metric: (("trial", "seed"), runs)}, over)
    estimate = over_seeds(lambda drawn: float(runs[0][drawn].mean()), seeds)
    return Tuned(study, metric, best[0].params, estimate, finalists, 71.4, 92_000, **extra)


def search(count=60, seed=0, slope=-1.0, **options):
    """A search of that many trials in the valley, with noise."""
    at = places(count, seed, slope)
    noise = np.random.default_rng([seed, 1]).normal(0, 0.4, count)
    return tuned(at, error(*at.T, slope) + noise, **options)
