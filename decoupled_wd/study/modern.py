"""The profile ``modern``: claims of what came after the paper, on language and MNIST-1D."""

from decoupled_wd import LR, PAPER
from decoupled_wd.study.claims.budget import Budget, half_octaves
from decoupled_wd.study.claims.comparison import Variants
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.precision import Precision
from decoupled_wd.study.claims.rotation import Rotation
from decoupled_wd.study.experiment import Experiment

# how many seeds, or searches, there are at each look; a run on text costs ten on MNIST-1D
_TEXT_LOOKS = (4, 8)
_LOOKS = (8, 16)
_MASKS = ("matrices", "no embeddings")

ROTATION = Rotation(
    leaves=("hidden/0/kernel", "hidden/1/kernel"),
    others=("readout/kernel",),
    learning_rate=0.0125,
    decay=2.0**-6,
    looks=(6, 12),
)
"""Claim (xii) on the MLP, which the default profile has too."""

MODERN: tuple[Experiment, ...] = (
    Experiment(
        "viii",
        "topics",
        "transformer",
        Interaction(grid=6, looks=_TEXT_LOOKS, couplings=(PAPER, LR), pairs=(("Adam", "AdamW"),)),
        seconds=690,
    ),
    Experiment(
        "viii",
        "topics",
        "transformer",
        Generalization(grid=6, looks=_TEXT_LOOKS),
        seconds=15,
    ),
    Experiment(
        "ix",
        "topics",
        "transformer",
        Budget(
            # over a 16-fold range at fixed data, with the learning rate as √B
            budgets={"batch size": (4, 16, 64)},
            learning_rates={"AdamW": (2.0**-7,)},
            looks=_TEXT_LOOKS,
            decays=half_octaves(-13, -3),
            along="batch size",
            power=0.5,
        ),
        seconds=200,
    ),
    Experiment(
        "ix",
        "mnist1d",
        "mlp",
        Budget(
            budgets={"batch size": (32, 128, 512)},
            learning_rates={"AdamW": (0.0125,)},
            looks=_LOOKS,
            decays=half_octaves(-13, -3),
            along="batch size",
            power=0.5,
        ),
        seconds=100,
    ),
    Experiment(
        "x",
        "topics",
        "transformer",
        Budget(
            # the learning rate goes as 1/width for all weights, as in both sources of the claim
            budgets={"width": (16, 32, 64)},
            learning_rates={"AdamW": (2.0**-6,)},
            # the answer lies near the bound
            looks=(*_TEXT_LOOKS, 16),
            decays=half_octaves(-12, -4),
            along="width",
            power=-1.0,
        ),
        seconds=240,
    ),
    Experiment(
        "x",
        "mnist1d",
        "mlp",
        Budget(
            budgets={"width": (32, 64, 128)},
            learning_rates={"AdamW": (0.025,)},
            looks=_LOOKS,
            decays=half_octaves(-12, -4),
            along="width",
            power=-1.0,
        ),
        seconds=65,
    ),
    Experiment(
        "xi",
        "topics",
        "transformer",
        Variants(("cautious", "AdamC", "hyperball", *_MASKS), trials=8, looks=(6, 12, 24)),
        seconds=320,
    ),
    Experiment(
        "xi",
        "mnist1d",
        "mlp",
        # the MLP has no embeddings to leave out
        Variants(("cautious", "AdamC", "hyperball", "matrices"), trials=12, looks=(12, 24)),
        seconds=75,
    ),
    Experiment(
        "xii",
        "topics",
        "transformer",
        Rotation(
            leaves=("blocks/0/query/kernel", "blocks/0/key/kernel", "blocks/1/query/kernel"),
            others=("head/kernel",),
            learning_rate=0.0125,
            decay=2.0**-6,
            looks=(4, 8),
            # one pass over the text, as long as a run of the other claims
            steps=364,
        ),
        seconds=20,
    ),
    Experiment("xii", "mnist1d", "mlp", ROTATION, seconds=10),
    Experiment(
        "xiii",
        "topics",
        "transformer",
        # λ is above 2^−9, where bfloat16 still sees it, and then below, as in a long run
        Precision({"tuned": (2.0**-6, 2.0**-7), "small steps": (2.0**-10, 2.0**-10)}, (6, 12)),
        seconds=55,
    ),
    Experiment(
        "xiii",
        "mnist1d",
        "mlp",
        Precision({"tuned": (0.0125, 2.0**-6), "small steps": (1.5e-3, 1.5e-3)}, (12, 24)),
        seconds=20,
    ),
)
