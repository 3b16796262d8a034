"""Which experiments a study consists of, in small and in full."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from decoupled_wd.study.claims.budget import Budget, more_points
from decoupled_wd.study.claims.equivalence import Equivalence
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.optimizers import PAIRS
from decoupled_wd.study.claims.restarts import Restarts
from decoupled_wd.study.claims.verdicts import Design
from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.full import FULL
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


# how many seeds there are at each look
_DEFAULT_LOOKS = (12, 24)
_LOOKS = (8, 16, 32)
_RATES = {"AdamW": (0.025,)}
_RESTARTED_RATES = {"AdamW": (0.05, 0.025)}
_NORMALIZED_DECAYS = (0.1, 0.2, 0.4, 0.8)
_IMAGE_RATES = {"AdamW": (0.0125,)}

_RIDGES = "ridges of Adam and AdamW"
_DEFAULT = (
    Experiment("i", "mnist1d", "mlp", Equivalence(), seconds=5),
    Experiment(
        "ii", "mnist1d", "mlp", Interaction(grid=8, looks=_DEFAULT_LOOKS), 75, shares=_RIDGES
    ),
    Experiment(
        "iii", "mnist1d", "mlp", Generalization(grid=8, looks=_DEFAULT_LOOKS), 5, shares=_RIDGES
    ),
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


def _images(
    network: str, *, grid: int, looks: tuple[int, ...], seconds: Sequence[float]
) -> list[Experiment]:
    """Lists the claims on Fashion-MNIST, or on data of the user's."""
    # 75 epochs are whole cycles, of 5, 10, 20 and 40
    budgets, epochs = {"epochs": (5, 20, 80)}, {"epochs": 75, "first_cycle": 5}
    sgd, adam = (Interaction(grid=grid, looks=looks, pairs=(pair,)) for pair in PAIRS)
    designs: Sequence[tuple[str, Design, str]] = (
        ("ii", sgd, ""),
        ("ii", adam, _RIDGES),
        ("iii", Generalization(grid=grid, looks=looks), _RIDGES),
        ("iv", Budget(budgets=budgets, learning_rates=_IMAGE_RATES, looks=looks), ""),
        (
            "v",
            Restarts(
                learning_rates=_IMAGE_RATES,
                normalized_decays=_NORMALIZED_DECAYS,
                looks=looks,
                **epochs,
            ),
            "",
        ),
    )
    return [
        Experiment(claim, "fashion-mnist", network, design, each, shares=shares)
        for (claim, design, shares), each in zip(designs, seconds, strict=True)
    ]


# together less than an hour on two cores
_IMAGES = (
    *_images("mlp", grid=8, looks=_LOOKS, seconds=(60, 60, 20, 40, 50)),
    # ten times as long as the MLP, even with a smaller grid and fewer seeds
    *_images("resnet", grid=6, looks=(4, 8), seconds=(650, 650, 170, 380, 330)),
)

PROFILES: Mapping[str, tuple[Experiment, ...]] = MappingProxyType(
    {"default": _DEFAULT, "full": FULL, "images": _IMAGES, "modern": MODERN}
)
"""The experiments of each profile, in the order in which they run."""
