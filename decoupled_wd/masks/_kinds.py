"""What kind of parameter a leaf is.

Its name tells, and its shape where the name alone does not.
"""

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

# A module that normalises, as LayerNorm_0, ln_f, bn1, input_layernorm and norms/0 do; and one that
# scales what a layer adds.
_NORM = r"(\w*norm(s|ali[sz]ation)?|(\w+_)?[lbg]n|ln_f)\d*(_\d+)?(/\d+)?"
_LAYER_SCALE = r"(layer_?scale|ls)_?\d*"


class _Pattern(NamedTuple):
    """A regular expression for a path, and the most axes of its leaf."""

    path: re.Pattern[str]
    most_axes: float

    def fits(self, path: str, axes: int) -> bool:
        return axes <= self.most_axes and self.path.fullmatch(path) is not None


def _pattern(path: str, most_axes: float = float("inf")) -> _Pattern:
    return _Pattern(re.compile(rf"(.*/)?({path})", re.IGNORECASE), most_axes)


# The names of flax, Equinox, Haiku, penzai, haliax and of models written in them. Case does not
# count, but in groups such as ``(?-i:D)``.
KINDS: dict[str, tuple[_Pattern, ...]] = {
    "bias": (
        # Haiku's b and offset, a norm's beta, flax's bias, torch's bias_ih and bias_hh
        _pattern(r"(?-i:b)|beta|offset|(\w+_)?bias(_\w+)?"),
        # b1 of a hand-written network, if it is a vector: as a matrix it may be a block
        _pattern(r"(?-i:b)\d+|(\w+_)?shift", 1),
    ),
    "norm": (
        # scales by their own name, whatever module they are in
        _pattern(r"(\w+_)?scale|gamma|weight_g|lambda_?\d+|layer_scale\w*|(?<=/)(?-i:g)"),
        # parameters whose name says nothing, in a module whose name does
        _pattern(rf"({_NORM}|\w*norms?\d*(_\w+)?)/(scale|weight|gamma|bias|offset|beta)"),
        _pattern(rf"({_NORM}|{_LAYER_SCALE})/(w|g|kernel|weights?|(scale|shift)/\w+|gamma\w*)"),
        # a weight of one axis is no matrix, so it scales what a norm has made
        _pattern(r"[^/]+/(weights?|kernel|w)|gamma_?\d*", 1),
    ),
    "embedding": (
        _pattern(r"\w*(embed|pos_enc)\w*|(\w+_)?embs?"),
        # a patch embedding is a convolution, and decays as one
        _pattern(r"((?!\w*patch)\w*embed\w*|(\w+_)?embs?|wte|wpe)(/\d+)?/(weight\w*|table)"),
    ),
    # inputs that are learned, and seen by every example
    "token": (_pattern(r"cls|probe|(\w+_)?tokens?|(cls|class)_embed\w*"),),
    "ssm": (
        # Mamba and S4: the dynamics are exponentials of these
        _pattern(r"A_log|(log_A|A|lambda)_(real|imag|re|im)|(inv|log)_dt|dt_bias|log_(step|delta)"),
        # LRU, Griffin, RWKV, and Mamba's D
        _pattern(r"(nu|theta|gamma)_log|a_param|time_(decay|first|mix\w*)|(?-i:D)"),
    ),
}


_WEIGHT = _pattern(r"weights?|kernel|w")

# The kinds that are told apart from matrices: what is missing of them may stand under another name.
_VECTORS = ("bias", "norm", "ssm")


# A model's paths are asked for again in every step that is not compiled.
@functools.lru_cache(maxsize=65536)
def first_kind(kinds: tuple[str, ...], path: str, axes: int) -> str | None:
    """Return the first of the kinds that a leaf is of, or None.

    It may be of several, as the bias of a norm is.
    """
    return next((kind for kind in kinds if any(p.fits(path, axes) for p in KINDS[kind])), None)


def why_no_matrix(path: str, shape: Sequence[int]) -> str | None:
    """Say why a leaf is no matrix, or None if it is one."""
    # Shapes such as (1, 1, C) are those of vectors that broadcast, unless the name says weight.
    spread = len(shape) > 2 and sum(n != 1 for n in shape) < 2 and not _WEIGHT.fits(path, 2)
    if len(shape) < 2 or spread:
        return "not a matrix"
    return first_kind(("bias", "norm"), path, len(shape))


def is_unknown(path: str, axes: int) -> bool:
    """Tell whether a leaf of fewer than two axes is of no kind.

    It is perhaps a bias under another name.
    """
    return axes < 2 and first_kind(tuple(KINDS), path, axes) is None


def missing_kinds(kinds: Sequence[str], leaves: Sequence[tuple[str, int]]) -> list[str]:
    """List the kinds of which no leaf is, and should be.

    Embeddings and tokens are asked for only where nothing has a name.
    """
    nameless = not any(re.search(r"[^\W\d]", path) for path, _ in leaves)
    asked = [kind for kind in kinds if nameless or kind in _VECTORS]
    return [kind for kind in asked if not any(first_kind((kind,), *leaf) for leaf in leaves)]
