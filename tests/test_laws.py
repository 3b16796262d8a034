"""The laws that every public transformation keeps, and the traps of other libraries that ours must not have."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from cases import (
    ALIASES,
    ALPHA,
    CASES,
    COUPLINGS,
    DECAY_WEIGHTS,
    DECAYING,
    DECOUPLE,
    DECOUPLED,
    LAMBDA,
    LINEAR,
    LINKS,
    PARAMS,
    ROUNDED,
    RULES,
    SPHERE,
    TOUCHED,
    only,
    public_transformations,
    strength_of,
    takes,
)
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import decoupled_wd as dwd

every_case = pytest.mark.parametrize("name", CASES)
FAST = settings(derandomize=True, max_examples=25, deadline=None)
close = functools.partial(chex.assert_trees_all_close, rtol=2e-6, atol=1e-7)
equal = chex.assert_trees_all_equal  # bit for bit but for the sign of zero
FALLING = {  # schedules for every keyword that may be one
    "learning_rate": optax.linear_schedule(ALPHA, 0.0, 9),
    "weight_decay": optax.linear_schedule(LAMBDA, 0.0, 9),
    "l2": optax.linear_schedule(LAMBDA, 0.0, 9),
}


def gradients(params, t):
    return jax.tree.map(lambda p: jnp.cos(p + t).astype(p.dtype), params)


def step(optimizer, params, state, t):
    updates, state = optimizer.update(gradients(params, t), state, params)
    return optax.apply_updates(params, updates), state


@functools.cache
def compiled(name):
    return jax.jit(functools.partial(step, CASES[name]()))


MOVED = jax.tree.map(lambda p: 0.5 * p + 0.2, PARAMS)  # rules may start with a pull of 0


def loop(name, steps=3):
    params, state = PARAMS, CASES[name]().init(PARAMS)
    for t in range(steps):
        params, state = compiled(name)(params, state, t)
    return params, state


def bits(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf).view(np.uint32), tree)


def scheduled(make):
    """The case with a schedule for each keyword that takes one, and the same first step."""
    has = [key for key in FALLING if key in make.keywords]
    peak = {"peak_learning_rate": ALPHA} if takes(make, "peak_learning_rate") else {}
    restarts = (
        "first_cycle_epochs" in make.keywords
    )  # they take numbers, and schedule by themselves
    return make() if restarts else make(**{key: FALLING[key] for key in has}, **peak)


# The table.


def test_no_public_transformation_escapes_the_table():
    public = public_transformations(dwd)
    assert public >= {"adamw", "decay_weights", "decouple", "scale_by_adam"}
    measured = {"record"}  # changes nothing; tests/test_recorder.py has its laws
    assert public - measured == {make.func.__name__ for make in CASES.values()}
    rounded = {name.split("-")[1] for name in ROUNDED}
    assert public_transformations(dwd.rounding) == rounded
    rules = public_transformations(dwd.rules)
    assert rules == {name.split("-")[0] for name in RULES}
    assert all(getattr(dwd, make.func.__name__) is make.func for make in CASES.values())


# JAX's transformations.


@every_case
def test_jit_is_eager(name):
    params, state = loop(name)
    close(compiled(name)(params, state, 3), step(CASES[name](), params, state, 3))


@every_case
def test_scan_is_a_loop(name):
    optimizer = CASES[name]()

    def body(carry, t):
        return step(optimizer, *carry, t), None

    start = PARAMS, optimizer.init(PARAMS)
    scanned, _ = jax.jit(lambda carry: jax.lax.scan(body, carry, jnp.arange(3)))(start)
    close(scanned, loop(name))


@pytest.mark.parametrize("name", DECAYING)
def test_one_trace_for_every_strength_and_vmap_is_a_loop(name):
    make, traces = CASES[name], []
    rate = "learning_rate" if "learning_rate" in make.keywords and name not in DECOUPLE else None

    def run(alpha, strength):
        traces.append(name)
        numbers = {strength_of(make): strength} | (
            {rate: alpha} | peak_of(make, alpha) if rate else {}
        )
        optimizer = make(**numbers)
        return step(optimizer, MOVED, optimizer.init(PARAMS), 0)

    alphas, strengths = jnp.array([0.1, 0.2, 0.3]), jnp.array([0.05, 0.0, 0.2])
    one = jax.jit(run)
    rows = [one(a, s) for a, s in zip(alphas, strengths, strict=True)]
    assert len(traces) == 1
    close(jax.jit(jax.vmap(run))(alphas, strengths), jax.tree.map(lambda *x: jnp.stack(x), *rows))
    different = jax.tree.map(lambda a, b: jnp.any(a != b), rows[0][0], rows[2][0])
    assert all(jax.tree.leaves(different))


@every_case
def test_buffers_are_donated(name):
    optimizer = CASES[name]()
    params = jax.tree.map(jnp.array, PARAMS)
    state = optimizer.init(params)
    # keep_unused: the last step's fraction is never read, and jit would leave it behind
    donating = jax.jit(functools.partial(step, optimizer), donate_argnums=(0, 1), keep_unused=True)
    after = donating(params, state, 0)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((params, state)))
    close(after, loop(name, 1))


def described(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)


@every_case
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_state_has_one_structure_whatever_the_settings(name, dtype):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    make = CASES[name]
    variants = [make(), scheduled(make)]
    if takes(make, "mask") and not holds_rule_state(make):  # masked-out leaves hold no rule state
        variants += [make(mask=dwd.masks.matrices()), make(mask=None)]
    if strength_of(make) in ("weight_decay", "l2"):
        variants += [make(**{strength_of(make): 0.1 * i}) for i in (0, 1)]
        variants += [make(**{strength_of(make): {"dense": 0.1, "scale": 0.0}})]
    if takes(make, "coupling"):
        variants += [make(coupling=coupling) for coupling in COUPLINGS.values()]
    expected = described(jax.eval_shape(variants[0].init, params))
    for optimizer in variants:
        state = jax.eval_shape(optimizer.init, params)
        updates, after = jax.eval_shape(optimizer.update, params, state, params)
        assert described(state) == described(after) == expected
        chex.assert_trees_all_equal_shapes(updates, params)
        finished = make.func.__name__ not in LINKS.keys() - {"add_decayed_weights"} | {
            "decay_weights"
        }
        kept = dtype if finished and not takes_rounding(make) else jnp.float32
        assert all(leaf.dtype == kept for leaf in jax.tree.leaves(updates))


def takes_rounding(make):
    """Behind a rounding link updates are float32."""
    return "rounding" in make.keywords


def holds_rule_state(make):
    if make.func is dwd.hyperball:
        return True
    rule = make.keywords.get("rule")
    return rule is not None and bool(jax.tree.leaves(rule.init(PARAMS)))


def test_a_checkpoint_survives_a_change_from_numbers_to_schedules(tmp_path):
    before = {name: loop(name)[1] for name in CASES}
    new = {name: scheduled(make) for name, make in CASES.items()}
    empty = {name: jax.eval_shape(optimizer.init, PARAMS) for name, optimizer in new.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", before)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", empty)
    equal(restored, before)
    for name, optimizer in new.items():
        params, _ = step(optimizer, PARAMS, restored[name], 3)
        chex.assert_tree_all_finite(params)


def is_hidden(node):
    return isinstance(node, optax.MaskedNode)


def check_map_params(optimizer):
    state = optimizer.init(PARAMS)
    marked = optax.tree.map_params(
        optimizer,
        lambda leaf, p: leaf if is_hidden(leaf) else jnp.full(jnp.shape(leaf), p.ndim),
        state,
        PARAMS,
        transform_non_params=jnp.zeros_like,
        is_leaf=is_hidden,
    )
    expected = jax.tree.map(lambda leaf: jnp.full(jnp.shape(leaf), jnp.ndim(leaf)), state)
    equal(marked, expected)  # counts and fractions are scalars, and every weight here has an axis


@pytest.mark.parametrize("name", [name for name in CASES if name not in ROUNDED])
def test_map_params_finds_what_is_shaped_like_the_params(name):
    check_map_params(CASES[name]())


@pytest.mark.parametrize(
    ("name", "marked"),
    [("adamw-residual", 3), ("adamw-residual-8", 3), ("adamw-stochastic_rounding", 2)],
)
def test_map_params_finds_the_residual_and_leaves_the_key(name, marked):
    optimizer = CASES[name]()
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    state = optimizer.init(params)
    found = optax.tree.map_params(optimizer, lambda leaf: leaf + 1, state)
    changed = jax.tree.map(lambda a, b: jnp.any(a != b), found, state)
    assert sum(map(int, jax.tree.leaves(changed))) == marked * len(jax.tree.leaves(params))


@pytest.mark.parametrize(
    "settings",
    [
        {"mask": {"dense": True, "scale": False}},
        {"mask": lambda params: {"dense": True, "scale": False}},
        {"mask": dwd.masks.matrices()},
        {"weight_decay": {"dense": 0.1, "scale": 0.0}},
    ],
)
def test_map_params_works_whatever_the_settings(settings):
    check_map_params(CASES["adamw"](**settings))


# Optax's combinators.


@every_case
def test_chains_pass_it_on(name):
    optimizer, g = CASES[name](), gradients(PARAMS, 0)
    alone, _ = optimizer.update(g, optimizer.init(PARAMS), PARAMS)
    for chained in (
        optax.chain(optimizer, optax.identity()),
        optax.named_chain(("identity", optax.identity()), ("decay", optimizer)),
    ):
        updates, _ = chained.update(g, chained.init(PARAMS), PARAMS)
        equal(updates, alone)


@every_case
def test_extra_arguments_do_not_disturb(name):
    optimizer, g = CASES[name](), gradients(PARAMS, 0)
    state = optimizer.init(PARAMS)
    alone = optimizer.update(g, state, PARAMS)
    equal(optimizer.update(g, state, PARAMS, value=1.0, grad=g, anything=None), alone)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)


@pytest.mark.parametrize("name", DECAYING)
def test_params_are_required(name):
    optimizer = CASES[name]()
    with pytest.raises(ValueError, match="with params"):
        optimizer.update(PARAMS, optimizer.init(PARAMS))


FROZEN = {"dense": {"bias": "frozen", "kernel": "trained"}, "scale": "frozen"}
TRAINED = jax.tree.map(lambda label: label == "trained", FROZEN)


@every_case
def test_frozen_parameters_do_not_move(name):
    make, g = CASES[name], gradients(PARAMS, 0)
    whole, _ = make().update(g, make().init(PARAMS), PARAMS)
    masked = optax.masked(make(), TRAINED)
    partitioned = optax.partition({"trained": make(), "frozen": optax.set_to_zero()}, FROZEN)
    for optimizer, rest in ((masked, g), (partitioned, jax.tree.map(jnp.zeros_like, g))):
        updates, _ = optimizer.update(g, optimizer.init(PARAMS), PARAMS)
        frozen = jax.tree.map(lambda trained, u, r: r if trained else u, TRAINED, updates, rest)
        equal(frozen, rest)
        # a smaller tree is another program, and XLA adds in another order
        expected = jax.tree.map(lambda trained, u, r: u if trained else r, TRAINED, whole, rest)
        chex.assert_trees_all_close(updates, expected, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in only("mask") if name not in TOUCHED])
def test_masked_out_parameters_do_not_decay(name):
    make = only("mask")[name]
    g = jax.tree.map(jnp.zeros_like, PARAMS)
    for mask in (TRAINED, lambda params: TRAINED, dwd.masks.matrices()):
        optimizer = make(mask=mask)
        updates, _ = optimizer.update(g, optimizer.init(PARAMS), MOVED)
        still = jax.tree.map(lambda m, u: bool(m) != (not jnp.any(u)), TRAINED, updates)
        assert all(jax.tree.leaves(still)), (name, updates)


@every_case
def test_multi_steps_decays_once_per_real_step(name):
    optimizer, g = CASES[name](), gradients(PARAMS, 0)
    expected, _ = optimizer.update(g, optimizer.init(PARAMS), PARAMS)
    several = optax.MultiSteps(optimizer, 2)
    update = jax.jit(several.update)
    first, state = update(g, several.init(PARAMS), PARAMS)
    second, state = update(g, state, PARAMS)
    assert not any(map(jnp.any, jax.tree.leaves(first)))
    close(second, expected)


@every_case
def test_apply_if_finite_rejects_without_decay(name):
    optimizer, g = CASES[name](), gradients(PARAMS, 0)
    guarded = optax.apply_if_finite(optimizer, 3)
    update, state = jax.jit(guarded.update), guarded.init(PARAMS)
    rejected, after = update(jax.tree.map(lambda x: x * jnp.nan, g), state, PARAMS)
    assert not any(map(jnp.any, jax.tree.leaves(rejected)))
    equal(after.inner_state, state.inner_state)
    accepted, _ = update(g, after, PARAMS)
    close(accepted, optimizer.update(g, optimizer.init(PARAMS), PARAMS)[0])


@pytest.mark.parametrize("name", DECOUPLE)
def test_schedule_free_passes_the_decay_to_its_iterates(name):
    def run(base):
        wrapped = optax.contrib.schedule_free(base, ALPHA, b1=0.9)
        state = wrapped.init(PARAMS)
        _, state = wrapped.update(gradients(PARAMS, 0), state, PARAMS)
        return state.z

    decayed, plain = run(CASES[name]()), run(CASES[name].args[0])
    close(decayed, jax.tree.map(lambda z, p: z - LAMBDA * p, plain, PARAMS))


# Hyperparameters that are injected.

RESTARTS = ("batch_size", "dataset_size", "first_cycle_epochs", "cycle_factor")
STATIC = (*RESTARTS, "stacked_axes")


def static_of(make):
    return [key for key in STATIC if takes(make, key)]


def peak_of(make, alpha=ALPHA):
    """What a learning rate needs that arrives as an array: whether it is its own peak cannot be known."""
    return {"peak_learning_rate": alpha} if takes(make, "peak_learning_rate") else {}


@every_case
def test_inject_hyperparams_takes_every_argument_as_it_is(name):
    make = CASES[name]
    wrapped = optax.inject_hyperparams(make.func, static_args=static_of(make))
    optimizer = wrapped(*make.args, **make.keywords, **peak_of(make))
    g, state = gradients(PARAMS, 0), optimizer.init(PARAMS)
    updates, _ = jax.jit(optimizer.update)(g, state, PARAMS)
    expected, _ = make().update(g, make().init(PARAMS), PARAMS)
    close(updates, expected, rtol=2e-5)  # as an array β2 is float32, which moves 1 − β2 by 1e-5


@pytest.mark.parametrize("key", RESTARTS)
def test_restarts_name_the_argument_that_was_injected(key):
    static = [other for other in RESTARTS if other != key]
    make = CASES["adamwr"]
    optimizer = optax.inject_hyperparams(make.func, static_args=static)(**make.keywords)
    with pytest.raises(TypeError, match=f"{key} is traced.*static_args"):
        jax.eval_shape(lambda p: optimizer.update(p, optimizer.init(p), p), PARAMS)


def test_injected_strengths_can_be_changed_without_a_new_trace():
    optimizer = optax.inject_hyperparams(dwd.adamw)(ALPHA, LAMBDA, peak_learning_rate=ALPHA)
    traces = []

    @jax.jit
    def update(state):
        traces.append(1)
        return optimizer.update(jax.tree.map(jnp.zeros_like, PARAMS), state, PARAMS)[0]

    state = optimizer.init(PARAMS)
    for strength in (0.5, 0.25, 0.125):
        state.hyperparams["weight_decay"] = jnp.asarray(strength)
        equal(update(state), jax.tree.map(lambda p: -strength * p, PARAMS))  # noqa: B023
    assert len(traces) == 1


def ndim_above_one(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def test_trap_inject_hyperparams_calls_a_mask_as_a_schedule():
    g = jax.tree.map(jnp.zeros_like, PARAMS)
    theirs = optax.inject_hyperparams(optax.adamw)(ALPHA, weight_decay=1.0, mask=ndim_above_one)
    updates, _ = theirs.update(g, theirs.init(PARAMS), PARAMS)
    assert not jnp.any(updates["dense"]["kernel"])  # optax: the decay is silently off
    for make in only("mask").values():
        wrapped = optax.inject_hyperparams(make.func, static_args=static_of(make))
        for mask in (ndim_above_one, lambda p: jax.tree.map(lambda x: x.ndim != 1, p), jnp.isnan):
            optimizer = wrapped(*make.args, **make.keywords | peak_of(make) | {"mask": mask})
            with pytest.raises(TypeError, match=r"mask is .*inject_hyperparams"):
                jax.eval_shape(optimizer.init, PARAMS)
            with pytest.raises(TypeError, match=r"mask is .*inject_hyperparams"):
                optimizer.init(PARAMS)
    static = optax.inject_hyperparams(dwd.adamw, static_args="mask")
    expected = {"dense": {"bias": False, "kernel": True}, "scale": False}
    for optimizer in (
        static(ALPHA, LAMBDA, peak_learning_rate=ALPHA, mask=ndim_above_one),
        optax.inject_hyperparams(dwd.adamw)(
            ALPHA, LAMBDA, peak_learning_rate=ALPHA, mask=dwd.masks.matrices()
        ),
    ):
        updates, _ = jax.jit(optimizer.update)(g, optimizer.init(PARAMS), PARAMS)
        assert jax.tree.map(lambda u: bool(jnp.any(u)), updates) == expected


def test_trap_inject_hyperparams_rounds_b2_to_one_on_bfloat16_params():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    theirs = optax.inject_hyperparams(optax.adamw)(ALPHA)
    updates, _ = theirs.update(params, theirs.init(params), params)
    assert jnp.isnan(updates["scale"]).all()  # optax: β2 is 1
    with pytest.raises(TypeError, match=r"arrived as bfloat16.*hyperparam_dtype=jnp.float32"):
        optax.inject_hyperparams(dwd.adamw)(ALPHA, LAMBDA).init(params)
    wide = optax.inject_hyperparams(dwd.adamw, hyperparam_dtype=jnp.float32)(
        ALPHA, LAMBDA, peak_learning_rate=ALPHA
    )
    updates, _ = wide.update(params, wide.init(params), params)
    plain, _ = dwd.adamw(ALPHA, LAMBDA).update(
        params, dwd.adamw(ALPHA, LAMBDA).init(params), params
    )
    close(updates, plain, rtol=2**-7)
    assert updates["scale"].dtype == jnp.bfloat16


# Leaves that are not weights.


# Not around optax's own optimisers, nor towards a target of another structure than these params, nor
# on matrices alone, of which there are none.
ANY_TREE = {
    name: make
    for name, make in (ALIASES | LINKS | DECAY_WEIGHTS | SPHERE).items()
    if name not in ("decay_weights-towards", "hyperball")
}


def two_updates(optimizer, g, params):
    _, state = optimizer.update(g, optimizer.init(params), params)
    return optimizer.update(g, state, params)[0]


@pytest.mark.parametrize("name", ANY_TREE)
def test_none_integer_and_key_leaves_are_left_alone(name):
    weights, slopes = {"weight": jnp.array([1.0, -2.0])}, {"weight": jnp.array([0.5, 0.25])}
    params = {"steps": jnp.array([1, 2]), "key": jax.random.key(0), "none": None}
    g = {"steps": jnp.array([0, 0]), "key": None, "none": None, "still": None}
    optimizer = ANY_TREE[name]()
    updates = two_updates(optimizer, g | slopes, params | weights | {"still": jnp.ones(1)})
    equal({"weight": updates.pop("weight")}, two_updates(optimizer, slopes, weights))
    assert updates.pop("steps").tolist() == [0, 0]
    assert updates == {"key": None, "none": None, "still": None}


@pytest.mark.parametrize("name", ANY_TREE)
@pytest.mark.parametrize("empty", [{}, (), {"a": None, "b": {}}])
def test_trees_without_weights_pass(name, empty):
    assert two_updates(ANY_TREE[name](), empty, empty) == empty


DECAYED = {name: make for name, make in DECOUPLED.items() if make.keywords.get("rule") is None}


@pytest.mark.parametrize("name", DECAYED)
def test_complex_weights_decay_like_real_ones(name):
    z, g = jnp.array([[1 + 2j, -3j], [0.25, -4 + 1j]]), jnp.array([[1j, 2], [0.5, -1 - 1j]])
    on, off = (CASES[name](**{strength_of(CASES[name]): s}) for s in (LAMBDA, 0.0))
    change = two_updates(on, g, z) - two_updates(off, g, z)
    assert change.dtype == jnp.complex64
    real, imag = (two_updates(on, jnp.zeros(z.shape), x) for x in (z.real, z.imag))
    close(change, real + 1j * imag, atol=5e-7)
    assert jnp.abs(change).min() > 4e-5


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_complex_weights_are_regularised_like_real_ones(name):
    z = jnp.array([[1 + 2j, -3j], [0.25, -4 + 1j]])
    for l2 in (0.0, LAMBDA):
        with_l2, folded = CASES[name](l2=l2), CASES[name](l2=0.0)
        close(two_updates(with_l2, 0.5 * z, z), two_updates(folded, (0.5 + l2) * z, z))


# Strength.


def poisoned(p):
    return p.at[(0,) * p.ndim].set(jnp.inf).at[(-1,) * p.ndim].set(jnp.nan)


@pytest.mark.parametrize("name", [name for name in DECAYING if not name.endswith("wr")])
def test_zero_strength_is_the_identity_bit_for_bit(name):
    make, key = CASES[name], strength_of(CASES[name])
    g = jax.tree.map(lambda p: p.at[(0,) * p.ndim].set(-0.0), gradients(PARAMS, 0))
    for zero in (0, 0.0, {"dense": 0, "scale": 0.0}):
        optimizer = make(**{key: zero})
        state, update = optimizer.init(PARAMS), jax.jit(optimizer.update)
        clean, _ = update(g, state, PARAMS)
        equal(bits(clean), bits(update(g, state, jax.tree.map(poisoned, PARAMS))[0]))
        if make.func in (dwd.decay_weights, dwd.add_decayed_weights):
            equal(bits(clean), bits(g))
        if make.func is dwd.decouple:
            inner = make.args[0]
            equal(bits(clean), bits(jax.jit(inner.update)(g, inner.init(PARAMS), PARAMS)[0]))


def test_a_traced_zero_follows_the_formula():
    """u − 0·θ: equal for finite θ. A select would cost the derivative with respect to λ at 0."""

    def update(strength, theta):
        return dwd.decay_weights(strength).update(g, dwd.decay_weights(0.1).init(theta), theta)[0]

    g, theta = jnp.array([0.5, -0.0]), jnp.array([-3.0, 2.0])
    equal(jax.jit(update)(0.0, theta), g)
    assert jnp.isnan(jax.jit(update)(0.0, theta / 0)).all()
    close(jax.jacobian(update)(0.0, theta), -theta)


WEIGHTS = st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3).map(jnp.array)
STRENGTH = st.floats(1e-6, 0.5)


@pytest.mark.parametrize("rule", LINEAR)
@FAST
@given(theta=WEIGHTS, u=WEIGHTS, one=STRENGTH, two=STRENGTH)
def test_linear_rules_add_in_strength(rule, theta, u, one, two):
    def decayed(u, strength):
        optimizer = dwd.decay_weights(strength, rule=RULES[rule])
        return optimizer.update(u, optimizer.init(jnp.ones(3)), theta)[0]

    twice = decayed(decayed(u, one), two)
    np.testing.assert_allclose(decayed(u, one + two), twice, rtol=1e-6, atol=1e-3)


@FAST
@given(theta=WEIGHTS, u=WEIGHTS, strength=STRENGTH)
def test_decay_is_the_formula_in_float64(theta, u, strength):
    optimizer = dwd.decay_weights(strength)
    updates, state = optimizer.update(u, optimizer.init(theta), theta)
    theta, u = (np.asarray(x, np.float64) for x in (theta, u))
    scale = np.abs(u) + strength * np.abs(theta)
    assert (np.abs(updates - (u - strength * theta)) <= 2**-22 * scale + 1e-37).all()
    assert state.fraction == np.float32(strength)


@FAST
@given(theta=WEIGHTS, strength=STRENGTH, alpha=st.floats(1e-3, 1.0))
def test_couplings_differ_by_powers_of_the_learning_rate(theta, strength, alpha):
    def decay(coupling):
        optimizer = dwd.decay_weights(strength, learning_rate=alpha, coupling=coupling)
        return optimizer.update(jnp.zeros(3), optimizer.init(theta), theta)[0]

    equal(decay(dwd.CORRECTED), decay(dwd.LR))  # η_t = 1
    equal(decay(dwd.CONSTANT), decay(dwd.PAPER))
    np.testing.assert_allclose(decay(dwd.LR), alpha * decay(dwd.PAPER), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("name", [name for name in DECAYED if not name.endswith("wr")])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_without_gradients_weights_shrink_by_the_product_of_the_fractions(x64, name, coupling):
    make, steps = CASES[name], 20
    options = {"peak_learning_rate": ALPHA} | {
        key: optax.cosine_decay_schedule(make.keywords[key], steps)
        for key in ("learning_rate", "weight_decay")
    }
    optimizer = make(**options, coupling=COUPLINGS[coupling])
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), PARAMS)

    def body(carry, _):
        params, state = carry
        zero = jax.tree.map(jnp.zeros_like, params)
        updates, state = optimizer.update(zero, state, params)
        return (optax.apply_updates(params, updates), state), None

    (last, _), _ = jax.lax.scan(body, (params, optimizer.init(params)), length=steps)
    eta = 0.5 + 0.5 * np.cos(np.pi * np.arange(steps) / steps)
    p, s = COUPLINGS[coupling].p, COUPLINGS[coupling].s
    left = np.prod(1 - LAMBDA * eta * ALPHA**p * eta**s)
    close(last, jax.tree.map(lambda leaf: left * leaf, params), rtol=1e-12, atol=0)


# λ as a tree.


TREE = {"dense": {"bias": 0.0, "kernel": 0.1}, "scale": 0.3}


def decay(weight_decay, g=None, **options):
    optimizer = dwd.decay_weights(weight_decay, **options)
    g = jax.tree.map(jnp.zeros_like, PARAMS) if g is None else g
    return optimizer.update(g, optimizer.init(PARAMS), PARAMS)


def test_a_tree_of_strengths_is_one_number_for_each_leaf():
    updates, _ = decay(TREE)
    close(updates, jax.tree.map(lambda strength, p: -strength * p, TREE, PARAMS))
    prefix, _ = decay({"dense": 0.1, "scale": np.float32(0.3)})
    assert jnp.any(prefix["dense"]["bias"])
    close(prefix["dense"]["kernel"], updates["dense"]["kernel"])
    close(prefix["scale"], updates["scale"])


def test_a_tree_of_strengths_multiplies_mask_coupling_and_schedule():
    lr = optax.linear_schedule(ALPHA, 0.0, 4)
    options = {"learning_rate": lr, "peak_learning_rate": ALPHA, "coupling": dwd.CORRECTED}
    optimizer = dwd.decay_weights(TREE, mask={"dense": 0.5, "scale": 1}, **options)
    zero, state = jax.tree.map(jnp.zeros_like, PARAMS), optimizer.init(PARAMS)
    for eta in (1.0, 0.75, 0.5):
        updates, state = optimizer.update(zero, state, PARAMS)
        c = ALPHA * eta**2
        close(updates["dense"]["kernel"], -0.1 * 0.5 * c * PARAMS["dense"]["kernel"])
        close(updates["scale"], -0.3 * c * PARAMS["scale"])
        close(state.fraction, c)  # the part that all leaves share


@pytest.mark.parametrize("name", DECAYING)
def test_a_tree_of_equal_strengths_is_that_strength(name):
    key = strength_of(CASES[name])
    if key == "normalized_weight_decay":
        with pytest.raises(TypeError, match="normalized_weight_decay must be a real number"):
            CASES[name](**{key: {"dense": 0.1, "scale": 0.1}})
        return
    one, tree = (CASES[name](**{key: s}) for s in (0.1, {"dense": 0.1, "scale": 0.1}))
    close(two_updates(tree, PARAMS, PARAMS), two_updates(one, PARAMS, PARAMS))


def test_rules_see_the_fraction_of_each_leaf():
    seen = {}

    def update(updates, state, params=None, *, fraction, **extra):
        seen.update(fraction)
        return params, state

    rule = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    decay({"dense": 0.1, "scale": 0.3}, rule=rule, mask={"dense": 0, "scale": 0.5})
    close(seen["scale"], 0.15)
    assert jax.tree.leaves(seen["dense"]) == []


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({"dense": 0.1}, ValueError, "weight_decay must have the structure of the params"),
        ({"dense": 0.1, "scale": -0.1}, ValueError, "weight_decay at 'scale' must be finite and"),
        ({"dense": {"bias": jnp.nan, "kernel": 0}, "scale": 0}, ValueError, "at 'dense/bias'"),
        (
            {"dense": "0.1", "scale": 0.1},
            TypeError,
            "weight_decay at 'dense' must be a real number",
        ),
        ({"dense": 0.1, "scale": True}, TypeError, "weight_decay at 'scale' must be a real number"),
        ({"dense": 0.1, "scale": lambda t: -0.1}, ValueError, "at 'scale' must be .* the schedule"),
        ({"dense": 0.1, "scale": lambda t: "x"}, TypeError, "at 'scale' is a schedule that must"),
        ({"dense": 0.1, "scale": jnp.ones(1)}, TypeError, "weight_decay at 'scale' must be a real"),
    ],
)
@pytest.mark.parametrize("link", [dwd.decay_weights, dwd.add_decayed_weights])
def test_a_tree_of_strengths_that_is_wrong_is_refused_at_the_door(link, tree, error, message):
    with pytest.raises(error, match=message):
        link(tree).init(PARAMS)


# Traps of other libraries.


@pytest.mark.parametrize("name", DECAYING)
@pytest.mark.parametrize("wrong", [-0.1, jnp.nan, jnp.inf, "0.1", True, None, 1j, jnp.ones(2)])
def test_trap_strengths_that_mean_nothing_are_accepted(name, wrong):
    key = strength_of(CASES[name])
    with pytest.raises((TypeError, ValueError), match=f"{key} must be .*got"):
        CASES[name](**{key: wrong})


@pytest.mark.parametrize("name", [name for name in DECAYING if name not in TOUCHED])
def test_trap_the_default_decays_nothing(name):
    parameters = inspect.signature(CASES[name].func).parameters
    assert parameters[strength_of(CASES[name])].default is inspect.Parameter.empty
    still = jax.tree.map(jnp.zeros_like, PARAMS)
    optimizer = CASES[name]()
    updates, _ = optimizer.update(still, optimizer.init(PARAMS), MOVED)
    assert all(jnp.any(leaf) for leaf in jax.tree.leaves(updates))


def shrinks(optimizer):
    still = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = optimizer.update(still, optimizer.init(PARAMS), PARAMS)
    return optax.tree.vdot(updates, PARAMS) < 0


def test_trap_decay_behind_a_finished_optimiser_grows_the_weights():
    assert not shrinks(optax.chain(optax.adam(ALPHA), optax.add_decayed_weights(0.1)))
    assert shrinks(optax.chain(optax.adam(ALPHA), dwd.decay_weights(0.1)))
    assert shrinks(dwd.decouple(optax.adam(ALPHA), 0.1))


def test_trap_l2_behind_the_moments_is_no_l2():
    """From zero gradients, L2 within Adam steps by the learning rate, whatever its strength."""
    still = jax.tree.map(jnp.zeros_like, PARAMS)
    for l2 in (1e-3, 0.4):
        optimizer = dwd.adam(ALPHA, l2)
        updates, _ = optimizer.update(still, optimizer.init(PARAMS), PARAMS)
        close(updates, jax.tree.map(lambda p: -ALPHA * jnp.sign(p), PARAMS), rtol=1e-4)


def test_trap_a_callable_mask_is_called_on_updates():
    params = {"wide": jnp.ones(2), "narrow": jnp.ones(2, jnp.bfloat16)}
    g = jax.tree.map(lambda p: jnp.zeros(2, jnp.bfloat16), params)

    def wide(tree):
        return jax.tree.map(lambda leaf: leaf.dtype == jnp.float32, tree)

    for optimizer in (dwd.adamw(ALPHA, 0.1, mask=wide), dwd.add_decayed_weights(0.1, wide)):
        updates, _ = optimizer.update(g, optimizer.init(params), params)
        assert jax.tree.map(lambda u: bool(jnp.any(u)), updates) == {"wide": True, "narrow": False}


def test_trap_mask_leaves_are_only_truthy():
    whole, _ = decay(0.1)
    half, _ = decay(0.1, mask={"dense": 0.5, "scale": 1})
    close(half["dense"], jax.tree.map(lambda u: 0.5 * u, whole["dense"]))
    for wrong in ("no_decay", -1, jnp.inf, jnp.ones(2)):
        with pytest.raises((TypeError, ValueError), match="mask at 'dense/bias'"):
            decay(0.1, mask={"dense": wrong, "scale": 1})
    with pytest.raises(ValueError, match="mask selects no parameter"):
        decay(0.1, mask={"dense": False, "scale": 0})


def test_trap_warm_up_sets_the_reference_learning_rate():
    warm_up = optax.linear_schedule(0.0, ALPHA, 4)
    options = {"learning_rate": warm_up, "peak_learning_rate": ALPHA}
    optimizer, fractions = dwd.decay_weights(0.1, **options), []
    state = optimizer.init(PARAMS)
    for _ in range(6):
        _, state = optimizer.update(PARAMS, state, PARAMS)
        fractions.append(float(state.fraction))
    np.testing.assert_allclose(fractions, [0, 0.025, 0.05, 0.075, 0.1, 0.1], rtol=1e-6)
    with pytest.raises(ValueError, match="pass peak_learning_rate="):
        dwd.decay_weights(0.1, learning_rate=warm_up)


def test_trap_corrected_decay_of_every_parameter():
    """AdamC's coupling for the normalised layers, the learning rate's for the others: two links."""
    lr = optax.linear_schedule(ALPHA, 0.0, 4)
    options = {"learning_rate": lr, "peak_learning_rate": ALPHA}
    optimizer = optax.chain(
        dwd.decay_weights(
            0.1, coupling=dwd.CORRECTED, mask={"dense": True, "scale": False}, **options
        ),
        dwd.decay_weights(0.1, coupling=dwd.LR, mask={"dense": False, "scale": True}, **options),
    )
    still, state = jax.tree.map(jnp.zeros_like, PARAMS), optimizer.init(PARAMS)
    for eta in (1.0, 0.75):
        updates, state = optimizer.update(still, state, PARAMS)
        close(updates["scale"], -0.1 * ALPHA * eta * PARAMS["scale"])
        kernel = PARAMS["dense"]["kernel"]
        close(updates["dense"]["kernel"], -0.1 * ALPHA * eta**2 * kernel)


def test_trap_zeroed_gradients_do_not_freeze():
    """Zeroing gradients before decay leaves the decay: freeze with a mask or a partition around it."""
    zeroed = optax.chain(optax.masked(optax.set_to_zero(), True), dwd.adamw(ALPHA, 0.1))
    assert shrinks(zeroed)
    frozen = optax.partition({"a": dwd.adamw(ALPHA, 0.1), "b": optax.set_to_zero()}, FROZEN_AB)
    still = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = frozen.update(still, frozen.init(PARAMS), PARAMS)
    assert not jnp.any(updates["dense"]["kernel"])


FROZEN_AB = {"dense": {"bias": "a", "kernel": "b"}, "scale": "a"}


def test_trap_decay_outside_multi_steps_is_applied_every_micro_step():
    still = jax.tree.map(jnp.zeros_like, PARAMS)

    def left(optimizer, steps=4):
        params, state = PARAMS, optimizer.init(PARAMS)
        for _ in range(steps):
            updates, state = optimizer.update(still, state, params)
            params = optax.apply_updates(params, updates)
        return params

    inside = optax.MultiSteps(dwd.sgdw(ALPHA, 0.1), 4)
    close(left(inside), jax.tree.map(lambda p: 0.9 * p, PARAMS))
    every = optax.chain(optax.apply_every(4), dwd.decay_weights(0.1))
    close(left(every), jax.tree.map(lambda p: 0.9**4 * p, PARAMS))


def test_trap_nnx_paths_and_masks_differ_between_init_and_update():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    for mask in (dwd.masks.matrices(), lambda params: jax.tree.map(lambda p: p.ndim > 1, params)):
        before = nnx.to_pure_dict(nnx.state(model))
        tx = dwd.sgdw(ALPHA, 0.1, mask=mask)
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        optimizer.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model)))
        after = nnx.to_pure_dict(nnx.state(model))
        close(after["kernel"], 0.9 * before["kernel"])
        equal(after["bias"], before["bias"])
