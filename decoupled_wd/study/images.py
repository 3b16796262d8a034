"""The profile ``images``: claims (ii) to (v) on Fashion-MNIST, or on data of the user's."""

from collections.abc import Sequence

from decoupled_wd.study.claims.budget import Budget
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.optimizers import PAIRS
from decoupled_wd.study.claims.restarts import Restarts
from decoupled_wd.study.claims.verdicts import Design
from decoupled_wd.study.experiment import Experiment

# how many seeds there are at each look
_LOOKS = (8, 16, 32)
_RATES = {"AdamW": (0.0125,)}
_NORMALIZED_DECAYS = (0.1, 0.2, 0.4, 0.8)


def _images(
    network: str,
    *,
    grid: int,
    looks: tuple[int, ...],
    epochs: tuple[int, int],
    seconds: Sequence[float],
) -> list[Experiment]:
    """Lists the claims on Fashion-MNIST, or on data of the user's."""
    sgd, adam = (Interaction(grid=grid, looks=looks, pairs=(pair,)) for pair in PAIRS)
    designs: Sequence[tuple[str, Design]] = (
        ("ii", sgd),
        ("ii", adam),
        ("iii", Generalization(grid=grid, looks=looks)),
        ("iv", Budget(budgets={"epochs": epochs}, learning_rates=_RATES, looks=looks)),
        (
            "v",
            Restarts(
                learning_rates=_RATES,
                normalized_decays=_NORMALIZED_DECAYS,
                looks=looks,
                # whole cycles, of 5, 10, 20 and 40
                epochs=75,
                first_cycle=5,
            ),
        ),
    )
    return [
        Experiment(claim, "fashion-mnist", network, design, each)
        for (claim, design), each in zip(designs, seconds, strict=True)
    ]


IMAGES: tuple[Experiment, ...] = (
    *_images("mlp", grid=8, looks=_LOOKS, epochs=(5, 80), seconds=(65, 65, 20, 40, 50)),
    # more than ten times as long as the MLP, even with a smaller grid and fewer seeds; after 5
    # epochs its error is the same at every λ
    *_images("resnet", grid=6, looks=(4, 8), epochs=(20, 80), seconds=(1480, 1600, 200, 680, 460)),
)
