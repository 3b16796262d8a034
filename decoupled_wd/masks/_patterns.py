"""Regular expressions for whole paths.

Each must be well formed, cover something, and not hide behind another.
"""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from decoupled_wd._base.paths import some
from decoupled_wd._base.types import Number
from decoupled_wd.masks._numbers import same

Rules: TypeAlias = Sequence[tuple[str, Number]]


def check_rule(rule: object) -> tuple[str, Number]:
    """Check a pair of a regular expression and a multiplier.

    It may be a tuple, a list or another such sequence.
    """
    pair = tuple(rule) if isinstance(rule, Sequence) and not isinstance(rule, str | bytes) else ()
    if len(pair) != 2 or not isinstance(pair[0], str):
        raise TypeError(
            f"a rule must be a pair (pattern, multiplier) with a string as pattern, got {rule!r}; "
            "write matching(('.*/bias', 0.0), ('.*', 1.0)), and matching(*rules) for a list of "
            "pairs"
        )
    pattern, multiplier = pair
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"pattern {pattern!r} is not a regular expression: {error}; put a backslash before the "
            "characters that are meant literally"
        ) from error
    return pattern, multiplier


def first_match(path: str, rules: Rules) -> tuple[str, Number] | None:
    """Return the first rule whose pattern matches the whole path."""
    return next((rule for rule in rules if re.fullmatch(rule[0], path)), None)


def check_distinct(paths: Sequence[str]) -> None:
    """Check that no two parameters have the same path.

    No pattern could tell them apart.
    """
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise ValueError(
            f"two parameters share the path {some(twice)}, and no pattern tells them apart: a "
            "slash or a dot in a key counts as a level; rename one of them, or pass a tree of "
            "multipliers as the mask"
        )


def check_covered(paths: Sequence[str], rules: Rules) -> None:
    """Check that a pattern matches each path.

    Nothing decays, or does not, in silence.
    """
    bare = [path for path in paths if not first_match(path, rules)]
    if bare:
        raise ValueError(
            f"no pattern covers {some(bare)}; add a rule, such as ('.*', 1.0) as the last one"
        )


def check_effect(paths: Sequence[str], rules: Rules) -> None:
    """Check that every pattern decides the multiplier of some path.

    None hides behind one earlier rule with another multiplier.
    """
    for index, (pattern, multiplier) in enumerate(rules):
        # the whole path, so that "bias" does not match "bias_correction"
        hits = [path for path in paths if re.fullmatch(pattern, path)]
        if not hits:
            nearest = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.3) or some(paths)
            raise ValueError(
                f"pattern {pattern!r} matches no floating-point parameter; the nearest paths are "
                f"{nearest}; a pattern must match the whole path: correct it (perhaps with '.*/' "
                "before it), or remove the rule"
            )
        for earlier, other in rules[:index]:
            # one earlier rule that says the same is no error, nor is a last catch-all
            hidden = all(re.fullmatch(earlier, path) for path in hits)
            if hidden and not same(other, multiplier) and len(hits) < len(paths):
                raise ValueError(
                    f"pattern {pattern!r} has no effect: {earlier!r} comes first and matches all "
                    f"of {some(hits)}; put the narrower pattern first, or remove the rule"
                )
