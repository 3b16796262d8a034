"""Towards what the weights decay: each rule is an optax pair that emits the pull.

``init(params) -> state`` and
``update(updates, state, params, *, gradients, fraction) -> (pull, state)``. A rule sees the
optimiser's final updates Δ (optax's sign: they are added to the params), the raw gradients and the
fraction c_t·m of each leaf, may keep state, and never sees a masked-out leaf: in its place there is
an ``optax.MaskedNode()``. `decay_weights` subtracts ``c_t · m ⊙ pull``.
"""

from decoupled_wd.rules import _norms, _penalties, _rule, _targets, _wrappers
from decoupled_wd.rules._norms import *
from decoupled_wd.rules._norms import NormState as NormState
from decoupled_wd.rules._norms import scale_to_norm as scale_to_norm
from decoupled_wd.rules._penalties import *
from decoupled_wd.rules._rule import *
from decoupled_wd.rules._rule import as_rule as as_rule
from decoupled_wd.rules._targets import *
from decoupled_wd.rules._wrappers import *

# each module says which of its names are public
__all__: list[str] = []
__all__ += _rule.__all__
__all__ += _targets.__all__
__all__ += _norms.__all__
__all__ += _penalties.__all__
__all__ += _wrappers.__all__


def __dir__() -> list[str]:
    """List the names for users, for tab completion."""
    return __all__
