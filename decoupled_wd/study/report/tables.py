"""What follows from a tuned λ, as tables: its units, what decays, and the λ of a larger run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optax
from markupsafe import Markup

import decoupled_wd as dwd
from decoupled_wd import Coupling, masks
from decoupled_wd.diagnostics.equivalents import Equivalent
from decoupled_wd.study.report.search import DECAY, RATE, Range


def units(
    chosen: Mapping[str, float], best: Range | None, coupling: Coupling, run: dwd.Run | None
) -> list[dict[str, Any]]:
    """Writes λ in every framework's unit, equal ones in one row, and then as times."""
    if not {RATE, DECAY} <= {*chosen}:
        return []
    budget: dict[str, Any] = {}
    if run is not None:
        budget = {name: getattr(run, name) for name in ("batch_size", "dataset_size", "epochs")}

    def rows(decay: float) -> tuple[Equivalent, ...]:
        return dwd.equivalents(decay, from_=coupling, learning_rate=chosen[RATE], **budget).rows

    middle = rows(chosen[DECAY])
    ends = (middle, middle) if best is None else (rows(best.low), rows(best.high))
    alike: dict[str, dict[str, Any]] = {}
    for row, *both in zip(middle, *ends, strict=True):
        found = alike.setdefault(row.meaning, {"names": [], "meaning": row.meaning})
        found["names"].append(row.unit)
        # a time is the longer, the smaller λ is
        found |= {"value": row.value, "ends": sorted(end.value for end in both)}
    return list(alike.values())


def described(
    chosen: Mapping[str, float],
    params: optax.Params | None,
    mask: masks.MaskLike | None,
    coupling: Coupling,
) -> Markup | None:
    """Returns the table of what decays, whose text is escaped already.

    None where nobody knows the learning rate that a coupling multiplies by.
    """
    # with p = 0 the fraction does not depend on α, and any will do
    rate = chosen.get(RATE, 1.0 if coupling.p == 0 else None)
    if params is None or DECAY not in chosen or rate is None:
        return None
    used = masks.everything() if mask is None else mask
    table = dwd.describe(params, chosen[DECAY], learning_rate=rate, coupling=coupling, mask=used)
    return Markup(table._repr_html_())


def planned(
    chosen: Mapping[str, float], run: dwd.Run | None, target: dwd.Run | None, coupling: Coupling
) -> Markup | None:
    """Returns the table of the plan, whose text is escaped already."""
    if run is None or target is None:
        return None
    reference = replace(
        run, learning_rate=chosen[RATE], weight_decay=chosen.get(DECAY), coupling=coupling
    )
    return Markup(dwd.plan(target, reference)._repr_html_())
