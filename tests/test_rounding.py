"""Weights in two halves follow float32 bit for bit, and chance rounds without bias."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import decoupled_wd as dwd
from decoupled_wd import rounding
from decoupled_wd._base.bits import round_with
from decoupled_wd.rounding._halves import joined, split

LOW = np.arange(1 << 16, dtype=np.uint32)
HIGH = np.array(
    [
        0x0000,
        0x8000,
        0x0001,
        0x807F,
        0x0080,
        0x3F80,
        0xBF80,
        0x3F7F,
        0x4049,
        0xC2F7,
        0x7F7F,
        0xFF7F,
        0x1234,
    ],
    np.uint32,
)


def bits32(x):
    return np.asarray(x, np.float32).view(np.uint32)


def bits16(x):
    return np.asarray(x).view(np.uint16)


def weights(high):
    """All 65 536 float32 numbers with this high half."""
    return jnp.asarray(((np.uint32(high) << 16) | LOW).view(np.float32))


@pytest.mark.parametrize("high", HIGH, ids=hex)
def test_two_halves_are_the_float32_weight_bit_for_bit(high):
    w = weights(high)
    p, low = split(w)
    chex.assert_trees_all_equal(bits32(joined(p, low)), bits32(w))
    assert (np.abs(bits16(p).astype(int) - high) <= 1).all()
    nearest = np.asarray(w).astype(jnp.bfloat16)
    tie = LOW == 0x8000
    chex.assert_trees_all_equal(bits16(p)[~tie], bits16(nearest)[~tie])
    # away from zero, where NumPy rounds to even: so the distance fits in 16 bits with their sign
    assert bits16(p)[tie] == high + 1


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan, -np.nan])
def test_infinities_and_nan(special):
    w = jnp.asarray([special], jnp.float32)
    back = joined(*split(w))
    np.testing.assert_array_equal(back, w)
    np.testing.assert_array_equal(split(w)[0].astype(jnp.float32), w)


@pytest.mark.parametrize("high", [0x3F80, 0xBF80, 0x4049, 0x0080])
def test_chance_rounds_without_bias_over_all_dithers(high):
    """For every low half the number of dithers that round up is that low half: P(up) = low / 2^16."""
    for low in (0, 1, 77, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        w = jnp.asarray(np.uint32((int(high) << 16) | low).view(np.float32))
        rounded = bits16(round_with(w, jnp.asarray(LOW, jnp.uint16)))
        assert set(rounded) <= {high, high + 1}
        assert (rounded == high + 1).sum() == low


def test_chance_keeps_what_is_no_number():
    w = jnp.array([jnp.inf, -jnp.inf, jnp.nan])
    np.testing.assert_array_equal(round_with(w, jnp.uint16(65535)).astype(jnp.float32), w)


def train(optimizer, params, gradients):
    """Every parameter and the last state, compiled."""

    def step(carry, g):
        params, state = carry
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), gradients))(params)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_residual_follows_float32_training_bit_for_bit(dtype):
    """Parameter and state together are the float32 weight, whatever the dtype of the gradients."""
    key = jax.random.key(0)
    gradients = {"w": jax.random.normal(key, (300, 4096)).astype(dtype)}
    start = {"w": jax.random.normal(jax.random.key(1), (4096,)).astype(jnp.bfloat16)}
    # one jitted step of the update in float32, shared by both, so that only the writing differs
    inner = dwd.adamw(3e-3, 1e-3)
    wide = {"w": start["w"].astype(jnp.float32)}

    @jax.jit
    def exact_update(g, state, w):
        g = jax.tree.map(lambda x: x.astype(jnp.float32), g)
        return inner.update(g, state, w)

    link = rounding.residual()
    narrow, kept, state = start, link.init(start), inner.init(wide)
    write = jax.jit(lambda u, s, p: link.update(u, s, p))
    for t in range(300):
        g = {"w": gradients["w"][t]}
        updates, state = exact_update(g, state, wide)
        emitted, kept = write(updates, kept, narrow)
        wide = optax.apply_updates(wide, updates)
        narrow = optax.apply_updates(narrow, emitted)
        held = joined(narrow["w"], kept.residual["w"])
        assert (bits32(held) == bits32(wide["w"])).all(), t
    assert narrow["w"].dtype == jnp.bfloat16


RULES = [dwd.rules.towards_zero(), dwd.rules.cautious(dwd.rules.towards_start())]


@pytest.mark.parametrize("rule", RULES)
@jax.disable_jit()
def test_a_whole_optimiser_is_the_float32_one_bit_for_bit(rule):
    """The decay too: it is taken of the float32 weight, not of the bfloat16 half.

    Operation by operation: a compiler may contract a·b + c for one dtype of the gradient and not
    for another.
    """
    start = jax.random.normal(jax.random.key(1), (512,)).astype(jnp.bfloat16)
    options = {"rule": rule, "peak_learning_rate": 3e-3}
    schedule = optax.cosine_decay_schedule(3e-3, 40)
    plain = dwd.adamw(schedule, 0.03, **options)
    linked = dwd.adamw(schedule, 0.03, rounding=rounding.residual(), **options)
    wide, narrow = start.astype(jnp.float32), start
    wide_state, narrow_state = plain.init(wide), linked.init(narrow)
    for t in range(40):
        g = jax.random.normal(jax.random.key(t), (512,)).astype(jnp.bfloat16)
        u, wide_state = plain.update(g.astype(jnp.float32), wide_state, wide)
        v, narrow_state = linked.update(g, narrow_state, narrow)
        wide, narrow = optax.apply_updates(wide, u), optax.apply_updates(narrow, v)
        held = rounding.weights(narrow_state.rounding, narrow)
        assert (bits32(held) == bits32(wide)).all(), t
    assert (narrow.astype(jnp.float32) != wide).any()


STEPS, C = 20_000, 1e-6
EXACT = float(np.prod(np.full(STEPS, 1 - C)))


def decayed(rounding_link, *, weight_decay=C, steps=STEPS, size=512, **options):
    params = jnp.ones(size, jnp.bfloat16)
    optimizer = dwd.sgdw(0.0, weight_decay, rounding=rounding_link, **options)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jnp.zeros(size, jnp.bfloat16), state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = (params, optimizer.init(params))
    (params, state), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=steps))(carry)
    return params, state


def test_residual_decays_where_plain_bfloat16_does_not():
    params, state = decayed(dwd.rounding.residual())
    w = joined(params, state.rounding.residual)
    np.testing.assert_allclose(1 - w, 1 - EXACT, rtol=0.02)
    assert (params == jnp.bfloat16(EXACT)).all()
    assert (decayed(None)[0] == 1).all()


def test_chance_decays_within_its_sampling_error():
    params, _ = decayed(dwd.rounding.stochastic_rounding(0), size=4096)
    values = np.asarray(params, np.float64)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - EXACT) < 4 * error
    assert error < 2e-3 * 0.02 * 10


def test_a_decay_scheduled_to_zero():
    schedule = optax.linear_schedule(1e-4, 0.0, 1000)
    params, state = decayed(dwd.rounding.residual(), weight_decay=schedule, steps=2000)
    exact = np.prod(1 - 1e-4 * (1 - np.arange(1000) / 1000))
    w = joined(params, state.rounding.residual)
    np.testing.assert_allclose(1 - w, 1 - exact, rtol=0.02)


def test_kahan_compensation_in_bfloat16_stops():
    """Why the state is the low half and not Kahan's compensation, of the same size."""

    def step(carry, _):
        p, compensation = carry
        wide = p.astype(jnp.float32)
        u = -C * wide + compensation.astype(jnp.float32)
        new = jax.lax.reduce_precision(wide + u, 8, 7)
        left = jax.lax.reduce_precision(u - (new - wide), 8, 7)
        return (new.astype(jnp.bfloat16), left.astype(jnp.bfloat16)), None

    one = jnp.ones((), jnp.bfloat16)
    (p, compensation), _ = jax.lax.scan(step, (one, one * 0), length=STEPS)
    assert float(p) + float(compensation) > 1 - 1e-3  # an exact 0.9802


def test_a_parameter_changed_from_outside_keeps_its_new_value():
    link = rounding.residual()
    p = jnp.asarray([1.0, 1.0, -1.0, 2.0], jnp.bfloat16)
    updates, state = link.update(jnp.asarray([-0.0031, 0.0031, 0.0031, 1e-3]), link.init(p), p)
    assert (state.residual != 0).all()
    changed = jnp.asarray([0.0, jnp.inf, -0.0, 5.0], jnp.bfloat16)
    updates, state = link.update(jnp.zeros(4), state, changed)
    after = optax.apply_updates(changed, updates)
    np.testing.assert_array_equal(after.astype(jnp.float32), changed.astype(jnp.float32))
    assert np.isfinite(joined(after, state.residual)[jnp.array([0, 2, 3])]).all()


LINKS = {
    "residual": rounding.residual,
    "byte": lambda: rounding.residual(bits=8),
    "stochastic": lambda: rounding.stochastic_rounding(0),
}


@pytest.mark.parametrize("make", LINKS.values(), ids=LINKS)
def test_other_leaves_pass_bit_for_bit_and_hold_no_state(make):
    params = {
        "f": jnp.ones(3),
        "i": jnp.arange(2),
        "c": jnp.ones(2) * 1j,
        "n": None,
        "k": jax.random.key(0),
    }
    updates = params | {"f": jnp.array([jnp.nan, -0.0, 1e-45])}
    link = make()
    out, state = link.update(updates, link.init(params), params)
    assert all(out[k] is updates[k] for k in params)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) <= 2  # a key at most


@pytest.mark.parametrize("make", LINKS.values(), ids=LINKS)
def test_an_absent_gradient_leaves_the_weight(make):
    params = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(3, jnp.bfloat16)}
    link = make()
    state = link.init(params)
    updates, after = link.update({"a": jnp.full(3, 0.01), "b": None}, state, params)
    assert updates["b"] is None
    chex.assert_trees_all_equal_structs(state, after)


def test_dither_differs_by_leaf_and_step_and_comes_back_with_the_seed():
    params = {"a": jnp.ones(256, jnp.bfloat16), "b": jnp.ones(256, jnp.bfloat16)}
    small = jax.tree.map(lambda p: jnp.full(p.shape, -0.002), params)

    def two_steps(seed):
        link = rounding.stochastic_rounding(seed)
        one, state = link.update(small, link.init(params), params)
        two, _ = link.update(small, state, params)
        return one, two

    one, two = two_steps(1)
    assert (one["a"] != one["b"]).any()
    assert (one["a"] != two["a"]).any()
    chex.assert_trees_all_equal((one, two), two_steps(1))
    assert (two_steps(2)[0]["a"] != one["a"]).any()


@pytest.mark.parametrize("make", LINKS.values(), ids=LINKS)
def test_float16_is_refused_by_path(make):
    with pytest.raises(TypeError, match="'w' is float16"):
        make().init({"w": jnp.ones(2, jnp.float16)})
    with pytest.raises(ValueError, match="with params"):
        make().update(jnp.ones(2), None)


# The weights that any optimiser's state holds


def labelled(params):
    return {"a": "first", "b": "second", "wide": "first", "none": None}


AROUND = {
    "link": lambda: rounding.residual(),
    "alias": lambda: dwd.adamw(0.01, 0.1, rounding=rounding.residual()),
    "chain": lambda: optax.chain(optax.sgd(0.1), rounding.residual()),
    "record": lambda: dwd.record(dwd.adamw(0.01, 0.1, rounding=rounding.residual())),
    "inject": lambda: optax.inject_hyperparams(
        lambda learning_rate: dwd.sgdw(
            learning_rate, 0.1, peak_learning_rate=0.1, rounding=rounding.residual()
        )
    )(0.1),
    "accumulated": lambda: optax.MultiSteps(dwd.sgdw(0.1, 0.1, rounding=rounding.residual()), 1),
    "finite": lambda: optax.apply_if_finite(dwd.sgdw(0.1, 0.1, rounding=rounding.residual()), 3),
    "partition": lambda: optax.partition(
        {name: optax.chain(optax.sgd(0.1), rounding.residual()) for name in ("first", "second")},
        labelled,
    ),
}


@pytest.mark.parametrize("name", AROUND)
def test_weights_takes_the_whole_state_whatever_is_around_it(name):
    narrow = jnp.ones(3, jnp.bfloat16)
    params = {"a": narrow, "b": 2 * narrow, "wide": jnp.ones(2), "none": None}
    step = jax.tree.map(lambda p: jnp.full(p.shape, 0.01), params)
    link = AROUND[name]()
    updates, state = link.update(step, link.init(params), params)
    params = optax.apply_updates(params, updates)
    residuals = [
        node
        for node in jax.tree.leaves(state, is_leaf=rounding.is_rounding_state)
        if rounding.is_rounding_state(node)
    ]
    low = {key: r for node in residuals for key, r in node.residual.items() if hasattr(r, "dtype")}
    held = rounding.weights(state, params)
    for key in ("a", "b"):
        bits = (bits16(params[key]).astype(np.uint32) << 16) + np.asarray(low[key], np.uint32)
        np.testing.assert_array_equal(bits32(held[key]), bits)
        assert (held[key] != params[key].astype(jnp.float32)).any()
    assert held["wide"] is params["wide"]
    assert held["none"] is None


def test_weights_of_a_flax_optimizer():
    model = nnx.Linear(3, 2, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(
        model, dwd.sgdw(0.1, 0.1, rounding=rounding.residual()), wrt=nnx.Param
    )
    optimizer.update(model, jax.tree.map(lambda p: 0.01 + 0 * p, nnx.state(model, nnx.Param)))
    params = nnx.state(model, nnx.Param)
    held = rounding.weights(optimizer.opt_state, params)
    assert jax.tree.structure(held) == jax.tree.structure(params)
    plain, low = nnx.to_pure_dict(params), optimizer.opt_state.rounding.residual
    exact = joined(plain["kernel"], low["kernel"].get_value())
    np.testing.assert_array_equal(nnx.to_pure_dict(held)["kernel"], exact)


@pytest.mark.parametrize("make", [optax.identity, lambda: rounding.stochastic_rounding(0)])
def test_without_a_residual_the_weights_are_the_params(make):
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    for link in (make(), dwd.adamw(0.1, 0.1, rounding=make()), optax.named_chain(("link", make()))):
        assert rounding.weights(link.init(params), params)["w"] is params["w"]


@pytest.mark.parametrize("make", LINKS.values(), ids=LINKS)
def test_eager_steps_under_debug_nans(make):
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    with jax.debug_nans(True):
        link = dwd.adamw(0.1, 0.1, rounding=make())
        updates, state = link.update(params, link.init(params), params)
        optax.apply_updates(params, updates)
        rounding.weights(state, params)


def test_preflight_asks_whether_the_link_rounds():
    params = {"w": jnp.ones(3, jnp.bfloat16)}

    def verdict(link):
        return dwd.preflight(params, 1e-4, rounding=link, on_loss="return").rows[0].verdict

    assert (
        verdict(optax.identity())
        == verdict(optax.chain(optax.identity()))
        == verdict(None)
        == "lost"
    )
    chained = optax.chain(optax.identity(), rounding.residual())
    assert verdict(chained) == verdict(rounding.stochastic_rounding(3)) == "kept"
    assert verdict(rounding.residual(bits=8)) == "kept"
