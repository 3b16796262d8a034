"""The check before training, against a count in NumPy and against training itself."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import decoupled_wd as dwd
from decoupled_wd import masks
from decoupled_wd.diagnostics.preflight import CheckedLeaf, preflight

BITS = np.arange(1 << 16, dtype=np.uint16)
NORMAL = ((BITS >> 7) & 0xFF > 40) & ((BITS >> 7) & 0xFF < 255)  # c·p must not underflow
ALL_BFLOAT16 = BITS[NORMAL].view(ml_dtypes.bfloat16)


def verdict(params, c, **options):
    return preflight({"w": params}, c, on_loss="return", **options).rows[0]


def moved_in_numpy(p, c):
    """Correctly rounded sums: two roundings, of the update and of the sum, in float64."""
    wide = p.astype(np.float64)
    update = (c * wide).astype(p.dtype).astype(np.float64)
    return float(np.mean((wide - update).astype(p.dtype) != p))


@pytest.mark.parametrize("exponent", [-12, -10, -9.01, -9, -8.99, -8.9, -8.5, -8.05, -8, -7.9, -3])
def test_the_share_is_that_of_a_numpy_enumeration(exponent):
    c = float(np.float32(2.0**exponent))
    expected = moved_in_numpy(ALL_BFLOAT16, c)
    assert verdict(jnp.asarray(ALL_BFLOAT16), c).moved == expected
    assert verdict(jax.ShapeDtypeStruct((7,), jnp.bfloat16), c).moved == expected
    assert (expected > 0) == (exponent > -9 + 0.005)  # at 2^-8.99 the update is still rounded away
    assert (expected == 1) == (exponent >= -8)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_the_threshold_is_the_last_fraction_that_moves_nothing(name):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    info = ml_dtypes.finfo(dtype)
    octave = (1 + np.arange(2**info.nmant) * float(info.eps)).astype(dtype)
    threshold = verdict(jax.ShapeDtypeStruct((7,), dtype), 1e-3).threshold
    assert threshold == float(info.eps) / 4
    for factor in (1.0, 1.2, 1.6, 2.0, 3.0):
        row = verdict(jax.ShapeDtypeStruct((7,), dtype), factor * threshold)
        assert row.moved == moved_in_numpy(octave, factor * threshold)
        assert (row.moved == 0) == (factor == 1)
        assert (row.moved == 1) == (factor >= 2)


@pytest.mark.parametrize("exponent", [-26, -25, -24.9, -24.5, -24.1, -24, -20])
def test_the_formula_for_float32_counts_all_significands(exponent):
    c = float(np.float32(2.0**exponent))
    octave = (np.arange(1 << 23, dtype=np.uint32) | 0x3F800000).view(np.float32)
    exact = float(np.mean((octave.astype(np.float64) * (1 - c)).astype(np.float32) != octave))
    assert verdict(jax.ShapeDtypeStruct((7,), jnp.float32), c).moved == pytest.approx(
        exact, abs=2**-22
    )
    assert (exact == 0) == (exponent <= -25)


@pytest.mark.parametrize("c", [2.0**-9, 3e-3, 3.9e-3, 4e-3])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_the_share_is_what_one_step_of_training_moves(dtype, c):
    p = jax.random.normal(jax.random.key(0), (4096,)).astype(dtype)
    optimizer = dwd.sgdw(0.1, c)
    updates, _ = optimizer.update(jnp.zeros_like(p), optimizer.init(p), p)
    moved = float(jnp.mean(optax.apply_updates(p, updates) != p))
    assert verdict(p, c).moved == moved


@pytest.mark.parametrize(
    "make", [dwd.rounding.residual, lambda: dwd.rounding.stochastic_rounding(0)]
)
def test_behind_a_link_bfloat16_has_the_threshold_of_float32(make):
    p = jax.random.normal(jax.random.key(0), (4096,)).astype(jnp.bfloat16)
    kept = verdict(p, 1e-6, rounding=make())
    assert (kept.verdict, kept.moved, kept.threshold, kept.remedy) == ("kept", 1, 2.0**-25, "")
    assert verdict(p, 2.0**-26, rounding=make()).verdict == "lost"
    assert verdict(p.astype(jnp.float16), 1e-6, rounding=make()).verdict == "lost"


TWO = {"bias": jnp.ones(3, jnp.bfloat16), "kernel": jnp.ones((2, 3), jnp.bfloat16)}
LINKS = {"rounded": dwd.rounding.residual(), "plain": optax.identity()}


@pytest.mark.parametrize(
    "link",
    [
        optax.masked(dwd.rounding.residual(), {"bias": False, "kernel": True}),
        optax.masked(
            dwd.rounding.stochastic_rounding(0),
            lambda tree: jax.tree.map(lambda p: p.ndim > 1, tree),
        ),
        optax.partition(LINKS, {"bias": "plain", "kernel": "rounded"}),
    ],
)
def test_a_link_for_some_weights_keeps_no_others(link):
    for params in (TWO, jax.eval_shape(lambda: TWO)):
        report = preflight(params, 1e-6, rounding=link, on_loss="return")
        assert [row.verdict for row in report.rows] == ["lost", "kept"]


def test_residual_training_agrees_with_both_verdicts():
    p = jax.random.normal(jax.random.key(0), (4096,)).astype(jnp.bfloat16)

    def moved(c):
        optimizer = dwd.sgdw(0.1, c, rounding=dwd.rounding.residual())
        updates, state = optimizer.update(jnp.zeros_like(p), optimizer.init(p), p)
        landed = optax.apply_updates(p, updates) != p
        return float(jnp.mean(landed | (state.rounding.residual != 0)))

    assert moved(1e-6) == 1
    assert moved(2.0**-26) == 0


PARAMS = {
    "body": {"bias": jnp.zeros(3, jnp.bfloat16), "kernel": jnp.full((2, 3), 1.5, jnp.bfloat16)},
    "head": jnp.ones(4),
    "half": jnp.ones(4, jnp.float16),
    "steps": jnp.arange(2),
    "absent": None,
}
MASK = masks.matching((".*bias|half", 1.0), (".*kernel", 2.0), (".*", 1.0))
LINK = "rounding=dwd.rounding.residual() or stochastic_rounding(seed)"


def test_rows_by_hand():
    rows = preflight(PARAMS, 2.0**-9, mask=MASK, on_loss="return").rows
    assert rows == (
        CheckedLeaf("absent", "", 0.0, None, 0.0, 0.0, "not decayed", ""),
        CheckedLeaf(
            *("body/bias", "bfloat16", 2.0**-9, None, 2.0**-9, 0.0, "lost"),
            f"{LINK}, or float32 weights",
        ),
        CheckedLeaf("body/kernel", "bfloat16", 2.0**-8, None, 2.0**-9, 1.0, "kept", ""),
        CheckedLeaf("half", "float16", 2.0**-9, None, 2.0**-12, 1.0, "kept", ""),
        CheckedLeaf("head", "float32", 2.0**-9, None, 2.0**-25, 1.0, "kept", ""),
        CheckedLeaf("steps", "int32", 0.0, None, 0.0, 0.0, "not decayed", ""),
    )


def test_masked_leaves_and_no_decay_at_all_are_no_loss():
    params = {"kernel": jnp.ones((2, 2), jnp.bfloat16), "bias": jnp.ones(2, jnp.bfloat16)}
    report = preflight(params, 1e-4, mask=masks.matrices(), on_loss="return")
    assert [row.verdict for row in report.rows] == ["not decayed", "lost"]
    assert [row.path for row in report.losses] == ["kernel"]
    assert preflight(params, 0.0, on_loss="raise").losses == ()


def test_weights_that_cannot_decay_are_not_counted():
    dead = jnp.asarray([0.0, -0.0, jnp.inf, jnp.nan, 1.5], jnp.bfloat16)
    assert verdict(dead, 2.0**-8).verdict == "kept"
    assert verdict(dead, 2.0**-9).verdict == "lost"


def test_a_zero_initialised_leaf_is_judged_by_its_dtype():
    assert verdict(jnp.zeros(3), 1e-3).verdict == "kept"
    partly = verdict(jnp.zeros(3, jnp.bfloat16), 3e-3)
    assert (partly.verdict, partly.moved) == ("partly lost", moved_in_numpy(ALL_BFLOAT16, 3e-3))


def test_known_and_abstract_params_name_the_same_leaves():
    abstract = jax.eval_shape(lambda: PARAMS)
    known, shapes = (preflight(p, 1e-4, on_loss="return").rows for p in (PARAMS, abstract))
    assert [row[:5] for row in known] == [row[:5] for row in shapes]
    traced = []
    jax.jit(lambda p: traced.append(preflight(p, 1e-4, on_loss="return")) or p)(PARAMS)
    assert traced[0].rows == shapes


COSINE = optax.cosine_decay_schedule(0.25, 100, alpha=0.5)


@pytest.mark.parametrize(
    ("options", "first", "last"),
    [
        ({}, 0.5, None),
        ({"steps": 101}, 0.5, None),
        ({"steps": 101, "learning_rate": COSINE, "peak_learning_rate": 0.25}, 0.5, 0.25),
        (
            {"steps": 101, "learning_rate": COSINE, "peak_learning_rate": 0.25, "coupling": dwd.LR},
            0.125,
            0.0625,
        ),
        ({"steps": 101, "learning_rate": COSINE, "coupling": dwd.CONSTANT}, 0.5, 0.5),
        ({"learning_rate": COSINE, "peak_learning_rate": 0.25}, 0.5, None),
    ],
)
def test_the_fraction_at_the_end_of_the_schedule(options, first, last):
    row = preflight({"w": jnp.ones(2)}, 0.5, **options).rows[0]
    assert row.fraction == pytest.approx(first, rel=1e-12)
    assert row.last_fraction == (last and pytest.approx(last, rel=1e-6))


def test_a_decay_scheduled_to_zero_ends_at_zero_and_follows_the_mask():
    decay = optax.linear_schedule(0.5, 0.0, 10)
    row = preflight({"w": jnp.ones(2)}, decay, steps=6, mask={"w": 0.5}).rows[0]
    assert (row.fraction, row.last_fraction) == (0.25, 0.125)
    assert preflight({"w": jnp.ones(2)}, decay, steps=11).rows[0].last_fraction == 0


def test_a_decay_that_starts_at_zero_is_judged_by_its_last_step():
    rising, params = optax.linear_schedule(0.0, 1e-4, 10), {"w": jnp.ones(2, jnp.bfloat16)}
    row = preflight(params, rising, steps=11, on_loss="return").rows[0]
    assert (row.fraction, row.verdict) == (0, "lost")
    assert row.last_fraction == pytest.approx(1e-4)
    assert preflight(params, optax.linear_schedule(0.0, 0.1, 10), steps=11).rows[0].moved == 1
    assert preflight(params, rising).rows[0].verdict == "not decayed"


def test_what_happens_on_loss():
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    with pytest.raises(ValueError, match=r"(?s)^path.*w .*lost.*in 1 of 1 decayed leaves"):
        preflight(params, 1e-4, on_loss="raise")
    with pytest.warns(UserWarning, match="lost") as caught:
        report = preflight(params, 1e-4)
    assert caught[0].filename == __file__
    assert report == preflight(params, 1e-4, on_loss="return")
    assert preflight(params, 1e-1, on_loss="raise").losses == ()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"on_loss": "ignore"},
            ValueError,
            r"on_loss must be one of \('raise', 'warn', 'return'\), got 'ignore'",
        ),
        ({"rounding": dwd.rounding.residual}, TypeError, "rounding must be a link.*call it"),
        ({"steps": 0}, ValueError, "steps must be finite and >= 1"),
        ({"learning_rate": COSINE}, ValueError, "pass peak_learning_rate="),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        preflight({"w": jnp.ones(2)}, 0.1, **options)


def test_text_and_html_show_the_rows():
    report = preflight({"<b>": jnp.ones(2, jnp.bfloat16), "w": jnp.ones(2)}, 1e-4, on_loss="return")
    head, first, second, summary = str(report).splitlines()
    assert head.split() == [
        "path",
        "dtype",
        "fraction",
        "last-fraction",
        "threshold",
        "moved",
        "verdict",
        "remedy",
    ]
    assert first.split()[:7] == ["<b>", "bfloat16", "0.0001", "–", "0.001953", "0", "lost"]
    assert second.split() == ["w", "float32", "0.0001", "–", "2.98e-08", "1", "kept"]
    assert summary == "decay is lost, wholly or partly, in 1 of 2 decayed leaves"
    html = report._repr_html_()
    assert "<td>&lt;b&gt;</td>" in html
    assert summary in html
    assert html.count("<tr>") == 3


def test_a_report_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preflight({"w": jnp.ones(2)}, 0.1).rows = ()
