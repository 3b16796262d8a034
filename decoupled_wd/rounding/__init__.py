"""In what precision the weights are written.

Last links make bfloat16 weights keep what a step adds: `residual`, with 16 or 8 bits, and
`stochastic_rounding`. `from_float32` and `weights` lead into bfloat16 and back.

Rounded to nearest, a bfloat16 weight ignores every change below 2^-9 of itself, and a decay of 1e-4
a step is such a change. The links take the exact float32 update, decay included, and emit the
float32 difference ``p' − p`` with which ``optax.apply_updates`` (it adds in float32, then casts)
lands on the bfloat16 weight p' that they chose. Only a last link may do so: whatever follows would
change the landing. Leaves that are not bfloat16 pass bit for bit and hold no state. Halves of
weights are handled as integers, since XLA may drop a conversion from float32 to bfloat16 and back.

Derivatives pass straight through, as if nothing were rounded: that of p' is that of p + u.

Why not Kahan summation: its compensation costs the same 2 bytes, but as a bfloat16 number stops
growing too, below c ≈ 2^-18. The low half of the float32 weight loses nothing.
"""

from decoupled_wd._base.bits import is_bfloat16 as is_bfloat16
from decoupled_wd.rounding._byte import ByteState as ByteState
from decoupled_wd.rounding._links import check_rounding as check_rounding
from decoupled_wd.rounding._links import is_rounding_state as is_rounding_state
from decoupled_wd.rounding._links import rounded_leaves as rounded_leaves
from decoupled_wd.rounding._residual import ResidualState as ResidualState
from decoupled_wd.rounding._residual import residual
from decoupled_wd.rounding._stochastic import StochasticRoundingState as StochasticRoundingState
from decoupled_wd.rounding._stochastic import stochastic_rounding
from decoupled_wd.rounding._weights import from_float32, weights
from decoupled_wd.rounding._weights import held_weights as held_weights

__all__ = ["from_float32", "residual", "stochastic_rounding", "weights"]


def __dir__() -> list[str]:
    """List the names for users, for tab completion."""
    return __all__
