"""The profile ``modern``: claims of what came after the paper, on language and MNIST-1D."""

from decoupled_wd import LR, PAPER
from decoupled_wd.study.claims.budget import Budget
from decoupled_wd.study.claims.comparison import Variants
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.precision import Precision
from decoupled_wd.study.claims.rotation import Rotation
from decoupled_wd.study.claims.verdicts import Design

# how many seeds, or searches, there are at each look; a run on text costs ten on MNIST-1D
_TEXT_LOOKS = (4, 8)
_LOOKS = (8, 16)
_MASKS = ("matrices", "no embeddings")
_DECAYS = tuple(2.0**-power for power in range(12, 3, -1))

ROTATION = Rotation(
    leaves=("hidden/0/kernel", "hidden/1/kernel"),
    others=("readout/kernel",),
    learning_rate=0.0125,
    decay=2.0**-6,
    looks=(6, 12),
)
"""Claim (xii) on the MLP, which the default profile has too."""

MODERN: tuple[tuple[str, str, str, Design, float], ...] = (
    (
        "viii",
        "topics",
        "transformer",
        Interaction(grid=6, looks=_TEXT_LOOKS, couplings=(PAPER, LR), pairs=(("Adam", "AdamW"),)),
        640,
    ),
    ("viii", "topics", "transformer", Generalization(grid=6, looks=_TEXT_LOOKS), 15),
    (
        "ix",
        "topics",
        "transformer",
        Budget(
            budgets={"batch size": (4, 16, 64)},
            learning_rates={"AdamW": (2.0**-7,)},
            looks=_TEXT_LOOKS,
            decays=_DECAYS,
            along="batch size",
            power=0.5,
        ),
        200,
    ),
    (
        "ix",
        "mnist1d",
        "mlp",
        Budget(
            budgets={"batch size": (32, 128, 512)},
            learning_rates={"AdamW": (0.0125,)},
            looks=_LOOKS,
            decays=_DECAYS,
            along="batch size",
            power=0.5,
        ),
        100,
    ),
    (
        "x",
        "topics",
        "transformer",
        Budget(
            budgets={"width": (16, 32, 64)},
            learning_rates={"AdamW": (2.0**-6,)},
            looks=_TEXT_LOOKS,
            decays=_DECAYS,
            along="width",
            power=-1.0,
        ),
        240,
    ),
    (
        "x",
        "mnist1d",
        "mlp",
        Budget(
            budgets={"width": (32, 64, 128)},
            learning_rates={"AdamW": (0.025,)},
            looks=_LOOKS,
            decays=_DECAYS,
            along="width",
            power=-1.0,
        ),
        65,
    ),
    (
        "xi",
        "topics",
        "transformer",
        Variants(("cautious", "AdamC", "hyperball", *_MASKS), trials=8, looks=(6, 12)),
        320,
    ),
    (
        "xi",
        "mnist1d",
        "mlp",
        Variants(("cautious", "AdamC", "hyperball", "matrices"), trials=12, looks=(12, 24)),
        75,
    ),
    (
        "xii",
        "topics",
        "transformer",
        Rotation(
            leaves=("blocks/0/query/kernel", "blocks/0/key/kernel", "blocks/1/query/kernel"),
            others=("head/kernel",),
            learning_rate=0.0125,
            decay=2.0**-6,
            looks=(4, 8),
            steps=364,
        ),
        20,
    ),
    ("xii", "mnist1d", "mlp", ROTATION, 10),
    (
        "xiii",
        "topics",
        "transformer",
        Precision({"tuned": (2.0**-6, 2.0**-7), "small steps": (2.0**-10, 2.0**-10)}, (6, 12)),
        55,
    ),
    (
        "xiii",
        "mnist1d",
        "mlp",
        Precision({"tuned": (0.0125, 2.0**-6), "small steps": (1.5e-3, 1.5e-3)}, (12, 24)),
        20,
    ),
)
"""Claim, data set, network, design, and seconds on two x86-64 cores."""
