"""Which experiments a study consists of, in small and in full."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

from decoupled_wd import LR, PAPER, Coupling
from decoupled_wd.study.claims.budget import Budget, half_octaves, more_points
from decoupled_wd.study.claims.choice import Choice
from decoupled_wd.study.claims.equivalence import Equivalence
from decoupled_wd.study.claims.exchange import Exchange
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.inclusion import Inclusion
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.optimizers import FAMILIES, PAIRS
from decoupled_wd.study.claims.restarts import Restarts
from decoupled_wd.study.claims.superconvergence import Superconvergence
from decoupled_wd.study.claims.verdicts import Design
from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.images import IMAGES
from decoupled_wd.study.modern import MODERN, ROTATION
from decoupled_wd.study.tasks.data import Dataset

CLAIMS: Mapping[str, str] = MappingProxyType(
    {
        "i": "L2 and weight decay are the same for SGD and not for Adam",
        "ii": "Decoupled, learning rate and weight decay can be tuned apart",
        "iii": "Tuned AdamW generalises better than tuned Adam + L2",
        "iv": "The best λ falls with the number of steps, the normalised λ does not",
        "v": "Warm restarts are good at any time",
        "vi": "Which optimiser to choose, at equal tuning budgets",
        "vii": "Super-convergence with AdamW and one cycle",
        "viii": "Decoupling and the tuned gain on language",
        "ix": "Over batch sizes, the best λ keeps its timescale in epochs",
        "x": "Over widths, with α ∝ 1/width, the best λ stays",
        "xi": "Variants of AdamW, tuned alike",
        "xii": "Norms and rotations at equilibrium are those of theory",
        "xiii": "bfloat16 weights, rounded to nearest, lose their decay",
    }
)


# how many seeds, or searches, there are at each look
_LOOKS = (8, 16, 32)
_SEARCHES = (12, 24, 48)
_RATES = {"AdamW": (0.0125, 0.025), "SGDW": (0.05, 0.2)}
_RESTARTED_RATES = {"AdamW": (0.05, 0.025), "SGDW": (0.25, 0.125)}
_NORMALIZED_DECAYS = (0.1, 0.2, 0.4, 0.8)
_SCHEDULES = ("cosine", "step drop", "fixed")
# in small: six seeds decide how steep SGD's ridges are, and eight pairs, of Adam's, what is tuned;
# every look has its share of the error, and begins all its sweeps anew
_SGD_LOOKS, _ADAM_LOOKS = (6, 12, 24), (16, 24)


def _apart(
    claim: str,
    dataset: str,
    network: str,
    designs: Iterable[Design],
    *,
    seconds: float,
    again: float = 1.0,
) -> list[Experiment]:
    """Lists an experiment for each design, since one is looked at again as a whole."""
    return [Experiment(claim, dataset, network, each, seconds, again) for each in designs]


def _ridges(*schedules: str, coupling: Coupling = PAPER) -> list[Interaction]:
    """Lists claim (ii) by schedule and pair of optimisers."""
    return [
        Interaction(
            grid=9, looks=_LOOKS, schedules=(schedule,), couplings=(coupling,), pairs=(pair,)
        )
        for schedule in schedules
        for pair in PAIRS
    ]


def _gains(*schedules: str) -> list[Generalization]:
    return [Generalization(grid=9, looks=_LOOKS, schedules=(each,)) for each in schedules]


def _budgets(
    varied: str,
    values: tuple[int, ...],
    decays: tuple[float, ...],
    dataset: Callable[[], Dataset] | None = None,
) -> list[Budget]:
    """Lists claim (iv) by optimiser and by α."""
    return [
        Budget(
            budgets={varied: values},
            learning_rates={name: (rate,)},
            looks=_LOOKS,
            decays=decays,
            dataset=dataset,
        )
        for name, rates in _RATES.items()
        for rate in rates
    ]


_ridge_seeds = partial(_apart, "ii", again=0.8)
_SGD, _ADAM = PAIRS
_DEFAULT = (
    Experiment("i", "mnist1d", "mlp", Equivalence(), seconds=5),
    *_ridge_seeds(
        "mnist1d", "mlp", [Interaction(grid=8, looks=_SGD_LOOKS, pairs=(_SGD,))], seconds=28
    ),
    *_ridge_seeds(
        "mnist1d", "mlp", [Interaction(grid=8, looks=_ADAM_LOOKS, pairs=(_ADAM,))], seconds=65
    ),
    Experiment("iii", "mnist1d", "mlp", Generalization(grid=8, looks=_ADAM_LOOKS), seconds=5),
    Experiment(
        "iv",
        "mnist1d",
        "mlp",
        Budget(
            # what lies in the middle has no weight in a slope
            budgets={"epochs": (8, 128)},
            learning_rates={"AdamW": (0.025,)},
            looks=(16, 32),
            decays=half_octaves(-9, -5),
            dataset=more_points,
        ),
        seconds=44,
    ),
    Experiment(
        "v",
        "mnist1d",
        "mlp",
        Restarts(
            learning_rates={"AdamW": (0.05, 0.025)},
            normalized_decays=_NORMALIZED_DECAYS,
            looks=(12, 24),
            # three cycles, of 10, 20 and 40
            epochs=70,
        ),
        seconds=18,
    ),
    Experiment("xii", "mnist1d", "mlp", ROTATION, seconds=6),
)

_RESTARTS = [
    Restarts(learning_rates={name: rates}, normalized_decays=_NORMALIZED_DECAYS, looks=_LOOKS)
    for name, rates in _RESTARTED_RATES.items()
]
_CHOICES: list[Design] = [
    *(Choice(trials=16, looks=_SEARCHES, families=(name,)) for name in FAMILIES),
    Exchange(trials=16, looks=_SEARCHES),
]
# λ on both sides of the best of each: the batch size moves it most, and few digits want much
_BUDGETS = [
    *_budgets("epochs", (8, 32, 128), half_octaves(-11, -4), more_points),
    *_budgets("training points", (500, 1400, 4000), half_octaves(-11, -2), more_points),
    *_budgets("batch size", (512, 128, 32), half_octaves(-13, -3), more_points),
]
_INCLUSION = Inclusion(trials=16, looks=_SEARCHES)
_CYCLES = Superconvergence(trials=16, looks=_SEARCHES)
_budget_seeds = partial(_apart, "iv", again=0.85)
_choice_seeds = partial(_apart, "vi", again=0.9)
# a seed of the ResNet takes ten times as long: Adam's pair alone, and no third look
_FEW = _LOOKS[:2]
_FULL = (
    Experiment("i", "mnist1d", "mlp", Equivalence(), seconds=5),
    Experiment("i", "digits", "resnet", Equivalence(), seconds=8),
    *_ridge_seeds("mnist1d", "mlp", _ridges(*_SCHEDULES), seconds=67),
    *_ridge_seeds("mnist1d", "mlp", _ridges(*_SCHEDULES, coupling=LR), seconds=28),
    *_ridge_seeds("mnist1d", "mlp without BatchNorm", _ridges("cosine"), seconds=55),
    *_ridge_seeds("mnist1d", "mlp without BatchNorm", _ridges("cosine", coupling=LR), seconds=26),
    *_ridge_seeds("digits", "mlp", _ridges("cosine"), seconds=35),
    *_ridge_seeds("digits", "mlp", _ridges("cosine", coupling=LR), seconds=15),
    *_ridge_seeds(
        "digits", "resnet", [Interaction(grid=9, looks=_FEW, pairs=(_ADAM,))], seconds=205
    ),
    *_apart("iii", "mnist1d", "mlp", _gains(*_SCHEDULES), seconds=5),
    *_apart("iii", "mnist1d", "mlp without BatchNorm", _gains("cosine"), seconds=4),
    *_apart("iii", "digits", "mlp", _gains("cosine"), seconds=4),
    Experiment("iii", "digits", "resnet", Generalization(grid=9, looks=_FEW), seconds=12),
    *_budget_seeds("mnist1d", "mlp", _BUDGETS, seconds=60),
    *_budget_seeds(
        "digits", "mlp", _budgets("epochs", (25, 100, 400), half_octaves(-10, -2)), seconds=27
    ),
    *_apart("v", "mnist1d", "mlp", _RESTARTS, seconds=34),
    *_apart("v", "digits", "mlp", _RESTARTS, seconds=12),
    *_choice_seeds("mnist1d", "mlp", _CHOICES, seconds=24),
    *_choice_seeds("digits", "mlp", _CHOICES, seconds=13),
    Experiment("vi", "mnist1d", "mlp", _INCLUSION, seconds=35),
    Experiment("vi", "digits", "mlp", _INCLUSION, seconds=27),
    Experiment("vii", "mnist1d", "mlp", _CYCLES, seconds=100),
    Experiment("vii", "digits", "mlp", _CYCLES, seconds=58),
)

PROFILES: Mapping[str, tuple[Experiment, ...]] = MappingProxyType(
    {"default": _DEFAULT, "full": _FULL, "images": IMAGES, "modern": MODERN}
)
"""The experiments of each profile, in the order in which they run."""
