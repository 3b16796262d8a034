"""Bytes of state for each weight, against the formula; a rule holds nothing for a masked-out leaf."""

import jax
from table import row
from variants import F32, VARIANTS, size

import decoupled_wd as dwd
from decoupled_wd import rules

SHAPE = (4096, 4096)
SMALL = 1.01 * 4 / SHAPE[0]  # counts, keys, and a norm for each row or column of a leaf
MOMENTS = 8  # Adam's, which every leaf has
KEEPING = {
    "towards_start": rules.towards_start(),
    "towards_norm": rules.towards_norm(),
    "cautious(towards_start)": rules.cautious(rules.towards_start()),
}


def measure():
    """Every variant, and what rules hold of a masked-out leaf."""
    return [_variant(case, variant) for case, variant in VARIANTS.items()] + [
        _masked_out(case, rule) for case, rule in KEEPING.items()
    ]


def _variant(case, variant):
    params = {"w": jax.ShapeDtypeStruct(SHAPE, variant.dtype)}
    held = size(jax.eval_shape(variant.optimizer.init, params)) / params["w"].size
    assert abs(held - variant.state) <= SMALL, f"{case}: {held} bytes, {variant.state} by formula"
    return row("state", case, held, "bytes/weight", against="formula", reference=variant.state)


def _masked_out(case, rule):
    """The bytes that a leaf which the mask leaves out adds, beside its moments."""
    params = {name: jax.ShapeDtypeStruct(SHAPE, F32) for name in ("decayed", "left_out")}
    optimizer = dwd.adamw(1e-3, 1e-4, rule=rule, mask={"decayed": True, "left_out": False})
    alone = {"decayed": params.pop("decayed")}
    both = size(jax.eval_shape(optimizer.init, alone | params))
    one = size(jax.eval_shape(dwd.adamw(1e-3, 1e-4, rule=rule).init, alone))
    added = (both - one) / params["left_out"].size - MOMENTS
    assert added == 0, f"{case}: a masked-out leaf adds {added} bytes a weight"
    return row(
        "state", f"{case}, masked out", added, "bytes/weight", against="formula", reference=0
    )
