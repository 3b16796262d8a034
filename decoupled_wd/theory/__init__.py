"""What weight decay leads to: how long a weight remembers, how large it is, and how fast it turns.

Where the loss does not depend on a weight's size, as before a normalisation layer, its gradient is
orthogonal to it: steps make it longer and decay shorter, until the two balance. There the weight
keeps its norm and turns by the same angle at each step. The formulas are those of a random walk,
for small fractions: c ≪ 1 − β of every moving average. All take the fraction c = λ·α^p that a step
removes, whatever the coupling, as numbers or arrays; `timescale` and `half_life` take a number, and
`influence` and `norms` schedules of it.
"""

from decoupled_wd.theory._equilibrium import (
    adamw_norm,
    lion_norm,
    lion_rotation,
    rotation,
    sgdw_norm,
)
from decoupled_wd.theory._matrices import muon_norm, muon_rotation
from decoupled_wd.theory._schedules import norms
from decoupled_wd.theory._sphere import (
    ball_radius,
    hyperball_fraction,
    hyperball_learning_rate,
    hyperball_rotation,
)
from decoupled_wd.theory._times import half_life, influence, timescale

__all__ = [
    "adamw_norm",
    "ball_radius",
    "half_life",
    "hyperball_fraction",
    "hyperball_learning_rate",
    "hyperball_rotation",
    "influence",
    "lion_norm",
    "lion_rotation",
    "muon_norm",
    "muon_rotation",
    "norms",
    "rotation",
    "sgdw_norm",
    "timescale",
]


def __dir__() -> list[str]:
    """List the names for users, for tab completion."""
    return __all__
