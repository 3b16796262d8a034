"""Wrong calls of `dwd.figures`: the call, the type of the error, words in its message."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

import decoupled_wd as dwd
from decoupled_wd.planning import Run, plan

AXES = np.array([0.1, 0.2]), np.array([0.01, 0.02])
GRID = np.ones((2, 2)), *AXES
RUN = Run(6e-4, 524_288, 1e10, parameters=124e6, coupling="torch")
HISTORY = SimpleNamespace(angle=np.ones(30), c=np.full(30, 0.1))
IDLE = SimpleNamespace(angle=np.ones(30), c=np.zeros(30))
SHORT = SimpleNamespace(angle=np.ones(3), c=np.ones(3))
ONE_STEP = SimpleNamespace(angle=np.ones(()), c=np.ones(()))


class Turned:
    """Labelled, with other dimensions."""

    dims, coords = ("learning_rate", "run"), {}


def drawn(name, *arguments, **options):
    return lambda: getattr(dwd.figures, name)(*arguments, **options)


WRONG = [
    (drawn("influence", {}), ValueError, "memories is empty: it needs a label with what theory.in"),
    (drawn("influence", [0.5, 0.5]), TypeError, "memories must be a Mapping, got [0.5, 0.5]"),
    (drawn("influence", {"a": [0.5, 0.6]}), ValueError, "memories['a'] must be shares of steps"),
    (drawn("influence", {"a": [1.5, -0.5]}), ValueError, "numbers >= 0 that sum to 1"),
    (drawn("influence", {"a": 1.0}), ValueError, "got shape () with the sum 1"),
    (drawn("influence", {"a": "half"}), TypeError, "memories['a'] must be numbers, got str"),
    (drawn("influence", {"a": [np.nan, 1]}), ValueError, "pass theory.influence("),
    (drawn("rotation", {}), ValueError, "rows is empty"),
    (drawn("rotation", HISTORY), TypeError, "rows must be a Mapping"),
    (drawn("rotation", {"a": IDLE}), ValueError, "rows must hold a leaf that decays"),
    (drawn("rotation", {"a": np.ones(30)}), TypeError, "rows['a'] must have angle and c, got nd"),
    (drawn("rotation", {"a": SHORT}), ValueError, "rows['a'] must be a history of at least window"),
    (drawn("rotation", {"a": ONE_STEP}), ValueError, "stack the records of a run"),
    (drawn("rotation", {"a": HISTORY}, window=0), ValueError, "window must be finite and >= 1"),
    (drawn("rotation", {"a": HISTORY}, window=2.5), ValueError, "window must be a whole number"),
    (drawn("rotation", {"a": HISTORY}, window="20"), TypeError, "window must be a real number"),
    (
        drawn("rotation", {"a": HISTORY}, predicted=lambda c: 1.0),
        ValueError,
        "predicted must return an angle for each of (30,) fractions, got ()",
    ),
    (drawn("half_lives", {}), ValueError, "described is empty"),
    (drawn("half_lives", [3.0]), TypeError, "described must be a Mapping"),
    (drawn("half_lives", {"a": -1}), ValueError, "described['a'] must be a half-life in steps"),
    (drawn("half_lives", {"a": np.nan}), ValueError, "inf stands for no decay"),
    (drawn("half_lives", {"a": [1.0, 2.0]}), ValueError, "one number >= 0, got [1. 2.]"),
    (drawn("half_lives", {"a": "long"}), TypeError, "described['a'] must be numbers, got str"),
    (lambda: dwd.figures.half_lives(dwd.describe({"a": 1}, 0.1)), ValueError, "no leaf that is tr"),
    (drawn("heatmap", {}), ValueError, "results is empty: it needs a label with a grid"),
    (drawn("heatmap", GRID), TypeError, "results must be a Mapping"),
    (drawn("heatmap", {"a": GRID[:2]}), ValueError, "got a tuple of 2"),
    (drawn("heatmap", {"a": GRID[0]}), TypeError, "results['a'] must be (error, learning_rate, w"),
    (drawn("heatmap", {"a": ("x", *AXES)}), TypeError, "results['a'] must be numbers, got str"),
    (drawn("heatmap", {"a": Turned()}), ValueError, "results['a'] must have the dimensions"),
    (drawn("heatmap", {"a": (np.ones((2, 3)), *AXES)}), ValueError, "error must be [2, 2]"),
    (drawn("heatmap", {"a": GRID}, circled=0), ValueError, "circled must be finite and >= 1"),
    (drawn("heatmap", {"a": GRID}, tolerance=-1), ValueError, "tolerance must be finite and >= 0"),
    (drawn("heatmap", {"a": GRID}, cap=0.5), ValueError, "cap must be finite and above the best"),
    (
        drawn("heatmap", {"a": GRID}, ridges={}),
        ValueError,
        "ridges must have one for each of ['a']",
    ),
    (drawn("ridge", {}), ValueError, "results is empty"),
    (drawn("ridge", {"a": GRID}), ValueError, "results has no ridge: in none of ['a'] are there"),
    (drawn("ridge", {"a": GRID}, tolerance="1"), TypeError, "tolerance must be a real number"),
    (drawn("plan", []), ValueError, "plans is empty: it needs what plan(run) returns"),
    (drawn("plan", [RUN]), TypeError, "plans[0] must be a Plan, got Run("),
    (lambda: dwd.figures.plan([plan(RUN)] * 2), ValueError, "plans must have different budgets"),
    (
        lambda: dwd.figures.plan(
            [plan(RUN), plan(replace(RUN, dataset_size=1e9, coupling="paper"))]
        ),
        ValueError,
        "plans must be in one unit of λ, got ['λ·η', 'λ·lr']",
    ),
]
