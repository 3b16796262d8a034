"""Which experiments a study consists of, in small and in full."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from decoupled_wd import LR, PAPER
from decoupled_wd.study.claims.budget import Budget, more_points
from decoupled_wd.study.claims.choice import Choice
from decoupled_wd.study.claims.equivalence import Equivalence
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.inclusion import Inclusion
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.restarts import Restarts
from decoupled_wd.study.claims.superconvergence import Superconvergence
from decoupled_wd.study.claims.verdicts import Design
from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.modern import MODERN, ROTATION

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
_DEFAULT_LOOKS = (12, 24)
_LOOKS = (8, 16, 32)
_SEARCHES = (12, 24, 48)
# one α in the default study, two in full
_RATES = {"AdamW": (0.025,)}
_MORE_RATES = {"AdamW": (0.0125, 0.025), "SGDW": (0.05, 0.2)}
_RESTARTED_RATES = {"AdamW": (0.05, 0.025)}
_MORE_RESTARTED_RATES = {"AdamW": (0.05, 0.025), "SGDW": (0.25, 0.125)}
_NORMALIZED_DECAYS = (0.1, 0.2, 0.4, 0.8)
_DECAYS = tuple((2.0 ** np.arange(-13, -2)).tolist())
# few digits want much
_STRONG_DECAYS = tuple((2.0 ** np.arange(-10, -1)).tolist())
_IMAGE_RATES = {"AdamW": (0.0125,)}
_MORE_BUDGETS = {
    "epochs": (8, 32, 128),
    "training points": (250, 1000, 4000),
    "batch size": (512, 128, 32),
}
_ALL_SCHEDULES = ("cosine", "step drop", "fixed")
_TWO_SCHEDULES = ("cosine", "fixed")

_DEFAULT = (
    Experiment("i", "mnist1d", "mlp", Equivalence(), seconds=5),
    Experiment("ii", "mnist1d", "mlp", Interaction(grid=8, looks=_DEFAULT_LOOKS), seconds=75),
    Experiment("iii", "mnist1d", "mlp", Generalization(grid=8, looks=_DEFAULT_LOOKS), seconds=5),
    Experiment(
        "iv",
        "mnist1d",
        "mlp",
        Budget(
            budgets={"epochs": (8, 32, 128)},
            learning_rates=_RATES,
            looks=_DEFAULT_LOOKS,
            dataset=more_points,
        ),
        seconds=45,
    ),
    Experiment(
        "v",
        "mnist1d",
        "mlp",
        Restarts(
            learning_rates=_RESTARTED_RATES,
            normalized_decays=_NORMALIZED_DECAYS,
            looks=_DEFAULT_LOOKS,
        ),
        seconds=30,
    ),
    Experiment("xii", "mnist1d", "mlp", ROTATION, seconds=10),
)


def _apart(
    claim: str, dataset: str, network: str, designs: Iterable[Design], *, seconds: float
) -> list[Experiment]:
    """Lists an experiment for each design, since one is looked at again as a whole."""
    return [Experiment(claim, dataset, network, each, seconds) for each in designs]


_FULL = (
    Experiment("i", "mnist1d", "mlp", Equivalence(), seconds=5),
    Experiment("i", "digits", "resnet", Equivalence(), seconds=8),
    *_apart(
        "ii",
        "mnist1d",
        "mlp",
        (
            Interaction(grid=9, looks=_LOOKS, schedules=(each,), couplings=(PAPER, LR))
            for each in _ALL_SCHEDULES
        ),
        seconds=138,
    ),
    Experiment(
        "ii",
        "mnist1d",
        "mlp without BatchNorm",
        Interaction(grid=9, looks=_LOOKS, couplings=(PAPER, LR)),
        seconds=95,
    ),
    Experiment(
        "ii", "digits", "mlp", Interaction(grid=9, looks=_LOOKS, couplings=(PAPER, LR)), seconds=60
    ),
    *_apart(
        "ii",
        "digits",
        "resnet",
        (Interaction(grid=9, looks=_LOOKS, schedules=(each,)) for each in _TWO_SCHEDULES),
        seconds=335,
    ),
    *_apart(
        "iii",
        "mnist1d",
        "mlp",
        (Generalization(grid=9, looks=_LOOKS, schedules=(each,)) for each in _ALL_SCHEDULES),
        seconds=12,
    ),
    Experiment(
        "iii",
        "mnist1d",
        "mlp without BatchNorm",
        Generalization(grid=9, looks=_LOOKS),
        seconds=5,
    ),
    Experiment("iii", "digits", "mlp", Generalization(grid=9, looks=_LOOKS), seconds=6),
    *_apart(
        "iii",
        "digits",
        "resnet",
        (Generalization(grid=9, looks=_LOOKS, schedules=(each,)) for each in _TWO_SCHEDULES),
        seconds=21,
    ),
    *_apart(
        "iv",
        "mnist1d",
        "mlp",
        (
            Budget(
                budgets={name: values},
                learning_rates=_MORE_RATES,
                looks=_LOOKS,
                decays=_DECAYS,
                dataset=more_points,
            )
            for name, values in _MORE_BUDGETS.items()
        ),
        seconds=137,
    ),
    Experiment(
        "iv",
        "digits",
        "resnet",
        Budget(
            budgets={"epochs": (25, 100, 400)},
            learning_rates=_MORE_RATES,
            looks=_LOOKS,
            decays=_STRONG_DECAYS,
        ),
        seconds=332,
    ),
    Experiment(
        "v",
        "mnist1d",
        "mlp",
        Restarts(
            learning_rates=_MORE_RESTARTED_RATES, normalized_decays=_NORMALIZED_DECAYS, looks=_LOOKS
        ),
        seconds=49,
    ),
    Experiment(
        "v",
        "digits",
        "resnet",
        Restarts(
            learning_rates=_MORE_RESTARTED_RATES, normalized_decays=_NORMALIZED_DECAYS, looks=_LOOKS
        ),
        seconds=85,
    ),
    Experiment("vi", "mnist1d", "mlp", Choice(trials=16, looks=_SEARCHES), seconds=163),
    Experiment("vi", "digits", "resnet", Choice(trials=16, looks=_SEARCHES), seconds=533),
    Experiment("vi", "mnist1d", "mlp", Inclusion(trials=16, looks=_SEARCHES), seconds=32),
    Experiment("vi", "digits", "resnet", Inclusion(trials=16, looks=_SEARCHES), seconds=106),
    Experiment("vii", "mnist1d", "mlp", Superconvergence(trials=16, looks=_SEARCHES), seconds=79),
    Experiment(
        "vii", "digits", "resnet", Superconvergence(trials=16, looks=_SEARCHES), seconds=257
    ),
)


def _images(
    network: str, *, grid: int, looks: tuple[int, ...], seconds: Sequence[float]
) -> list[Experiment]:
    """Lists the claims on Fashion-MNIST, or on data of the user's."""
    # 75 epochs are whole cycles, of 5, 10, 20 and 40
    budgets, epochs = {"epochs": (5, 20, 80)}, {"epochs": 75, "first_cycle": 5}
    designs: Mapping[str, Design] = {
        "ii": Interaction(grid=grid, looks=looks),
        "iii": Generalization(grid=grid, looks=looks),
        "iv": Budget(budgets=budgets, learning_rates=_IMAGE_RATES, looks=looks),
        "v": Restarts(
            learning_rates=_IMAGE_RATES,
            normalized_decays=_NORMALIZED_DECAYS,
            looks=looks,
            **epochs,
        ),
    }
    return [
        Experiment(claim, "fashion-mnist", network, designs[claim], each)
        for claim, each in zip(designs, seconds, strict=True)
    ]


# together less than an hour on two cores
_IMAGES = (
    *_images("mlp", grid=8, looks=_LOOKS, seconds=(120, 20, 40, 50)),
    # ten times as long as the MLP, even with a smaller grid and fewer seeds
    *_images("resnet", grid=6, looks=(4, 8), seconds=(1200, 170, 380, 330)),
)

PROFILES: Mapping[str, tuple[Experiment, ...]] = MappingProxyType(
    {"default": _DEFAULT, "full": _FULL, "images": _IMAGES, "modern": MODERN}
)
"""The experiments of each profile, in the order in which they run."""
