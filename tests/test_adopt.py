"""Decay switched on in the middle of a run: the state of optax's optimiser goes on as one of ours."""

import subprocess
import sys
import textwrap
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import decoupled_wd as dwd

PARAMS = {
    "dense": {"bias": jnp.array([0.5, -1.5]), "kernel": jnp.array([[1.0, -2.0], [0.25, 3.0]])},
    "scale": jnp.array([1.0, -0.3, 2.0]),
}
SCHEDULE = optax.cosine_decay_schedule(0.1, 20)
TOLD = {"learning_rate": SCHEDULE, "peak_learning_rate": 0.1}
TAKEN, MORE = 5, 4


def train(optimizer, params, state, steps, first):
    """Steps whose gradients depend on the weights and on the number of the step."""

    @jax.jit
    def step(params, state, number):
        gradients = jax.tree.map(lambda p: jnp.sin(p * (number + 1)).astype(p.dtype), params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for number in range(first, first + steps):
        params, state = step(params, state, number)
    return params, state


def halfway(optimizer, params=PARAMS):
    return train(optimizer, params, optimizer.init(params), TAKEN, 0)


def check_fits(adopted, optimizer, params):
    """The state has the structure, shapes and dtypes that the optimiser's own has."""
    chex.assert_trees_all_equal_shapes_and_dtypes(adopted, optimizer.init(params))


def lion(**options):
    return optax.lion(SCHEDULE, weight_decay=0.0, **options)


def micro(optimizer):
    return optax.MultiSteps(optimizer, 2).gradient_transformation()


CLIP = optax.clip_by_global_norm(1.0)
MASK = {"dense": True, "scale": False}
PARTS = {"dense": "adam", "scale": "sgd"}


def parts(adam):
    return optax.partition({"adam": adam, "sgd": optax.sgd(0.1)}, PARTS)


# theirs, and what takes its state: with λ = 0 nothing but the state has changed
SAME = {
    "adam-adamw": (optax.adam(0.1), dwd.adamw(0.1, 0.0)),
    "adam-adam": (optax.adam(0.1), dwd.adam(0.1, 0.0)),
    "adam-schedule": (optax.adam(SCHEDULE), dwd.adamw(SCHEDULE, 0.0, peak_learning_rate=0.1)),
    "adamw": (optax.adamw(0.1, weight_decay=0.0), dwd.adamw(0.1, 0.0)),
    "adam-number-to-schedule": (
        optax.adam(0.1),
        dwd.adamw(optax.constant_schedule(0.1), 0.0, peak_learning_rate=0.1),
    ),
    "chain": (optax.chain(CLIP, optax.adam(0.1)), optax.chain(CLIP, dwd.adamw(0.1, 0.0))),
    "decouple-chain": (
        optax.chain(CLIP, optax.adam(0.1)),
        dwd.decouple(optax.chain(CLIP, optax.adam(0.1)), 0.0, learning_rate=0.1),
    ),
    "links": (
        optax.adam(SCHEDULE),
        optax.chain(
            dwd.scale_by_adam(), optax.scale_by_learning_rate(SCHEDULE), dwd.decay_weights(0.0)
        ),
    ),
    "lion": (lion(), dwd.decouple(lion(), 0.0, **TOLD)),
    "nesterov": (
        optax.nadam(0.1, eps_root=1e-8),
        dwd.decouple(optax.nadam(0.1, eps_root=1e-8), 0.0),
    ),
    "adafactor": (optax.adafactor(0.1), dwd.decouple(optax.adafactor(0.1), 0.0)),
    "masked": (
        optax.masked(optax.adam(0.1), MASK),
        dwd.decouple(optax.masked(optax.adam(0.1), MASK), 0.0),
    ),
    "partition": (parts(optax.adam(0.1)), parts(dwd.adamw(0.1, 0.0))),
    "micro-batches": (micro(optax.adam(0.1)), micro(dwd.adamw(0.1, 0.0))),
    "finite": (
        optax.apply_if_finite(optax.adam(0.1), 3),
        optax.apply_if_finite(dwd.adamw(0.1, 0.0), 3),
    ),
    "injected-inside": (
        optax.inject_hyperparams(optax.adam)(SCHEDULE),
        dwd.decouple(optax.inject_hyperparams(optax.adam)(SCHEDULE), 0.0, **TOLD),
    ),
    "recorded": (optax.adam(0.1), dwd.record(dwd.adamw(0.1, 0.0))),
    "start": (optax.adam(0.1), dwd.adamw(0.1, 0.0, rule=dwd.rules.towards_start())),
    "ours": (dwd.adam(0.1, 0.0), dwd.adamw(0.1, 0.0)),
    "ours-sgd": (dwd.sgd(0.1, 0.0), dwd.sgdw(0.1, 0.0)),
}
INJECTED = (
    optax.inject_hyperparams(optax.adam)(SCHEDULE),
    optax.inject_hyperparams(dwd.adamw)(SCHEDULE, 0.0, peak_learning_rate=0.1),
)
# these count no steps
UNCOUNTED = {
    "trace": (
        optax.sgd(0.1, momentum=0.9),
        dwd.decouple(optax.sgd(0.1, momentum=0.9), 0.0, learning_rate=0.1),
    ),
    "trace-outside": (
        optax.sgd(0.1, momentum=0.9),
        optax.chain(
            dwd.scale_by_momentum(0.9), optax.scale_by_learning_rate(0.1), dwd.decay_weights(0.0)
        ),
    ),
    # times a power of two nothing is rounded
    "trace-sgdw": (optax.sgd(0.125, momentum=0.9), dwd.sgdw(0.125, 0.0)),
    "trace-sgd": (optax.sgd(0.125, momentum=0.9), dwd.sgd(0.125, 0.0)),
    "clipped-sgdw": (
        optax.chain(CLIP, optax.sgd(0.125, momentum=0.9)),
        optax.chain(CLIP, dwd.sgdw(0.125, 0.0)),
    ),
    "rmsprop": (
        optax.rmsprop(0.1, momentum=0.9),
        dwd.decouple(optax.rmsprop(0.1, momentum=0.9), 0.0),
    ),
    "schedule-free": (
        optax.contrib.schedule_free_sgd(0.1),
        dwd.decouple(optax.contrib.schedule_free_sgd(0.1), 0.0),
    ),
    "sgd": (optax.sgd(0.1), dwd.decouple(optax.sgd(0.1), 0.0)),
}


@pytest.mark.parametrize("name", [*SAME, *UNCOUNTED])
def test_without_decay_training_goes_on_bit_for_bit(name):
    theirs, ours = (SAME | UNCOUNTED)[name]
    params, state = halfway(theirs)
    adopted = dwd.adopt(ours, params, state, count=TAKEN if name in UNCOUNTED else None)
    check_fits(adopted, ours, params)
    there, _ = train(theirs, params, state, MORE, TAKEN)
    here, _ = train(ours, params, adopted, MORE, TAKEN)
    chex.assert_trees_all_equal(here, there)
    # and it is the state that leads there
    lost, _ = train(ours, params, ours.init(params), MORE, TAKEN)
    if name != "sgd":
        assert not np.array_equal(lost["dense"]["kernel"], there["dense"]["kernel"])


def test_injected_hyperparameters_are_those_of_the_optimiser_at_the_restored_step():
    theirs, ours = INJECTED
    params, state = halfway(theirs)
    adopted = dwd.adopt(ours, params, state)
    check_fits(adopted, ours, params)
    chex.assert_trees_all_equal(adopted.inner_state.inner[0].nu, state.inner_state[0].nu)
    there, _ = train(theirs, params, state, MORE, TAKEN)
    here, after = train(ours, params, adopted, MORE, TAKEN)
    # numbers that are traced are rounded otherwise than those that a compiler knows
    chex.assert_trees_all_close(here, there, rtol=1e-6)
    assert float(after.hyperparams["learning_rate"]) == float(SCHEDULE(TAKEN + MORE - 1))


def test_hyperparameters_set_by_hand_stay_in_an_optimiser_that_has_them_too():
    theirs = optax.inject_hyperparams(optax.adam)(0.1)
    params, state = halfway(theirs)
    state.hyperparams["learning_rate"] = jnp.float32(0.03)
    adopted = dwd.adopt(dwd.decouple(theirs, 0.01), params, state)
    assert float(adopted.inner.hyperparams["learning_rate"]) == np.float32(0.03)


@pytest.mark.parametrize("name", ["adam-adamw", "lion", "chain", "links"])
def test_all_counts_are_those_of_the_restored_step(name):
    theirs, ours = SAME[name]
    params, state = halfway(theirs)
    counts = optax.tree.get_all_with_path(dwd.adopt(ours, params, state), "count")
    assert len(counts) >= 2
    assert {int(count) for _, count in counts} == {TAKEN}


def test_the_first_decay_is_that_of_the_restored_step():
    """In NumPy: ``c_t = λ·η_t`` with η of the sixth step, not of the first."""
    theirs, lam = optax.adam(SCHEDULE), 0.02
    params, state = halfway(theirs)
    decayed = dwd.adamw(SCHEDULE, lam, peak_learning_rate=0.1)
    after, adopted = train(decayed, params, dwd.adopt(decayed, params, state), 1, TAKEN)
    plain, _ = train(theirs, params, state, 1, TAKEN)
    eta = 0.5 * (1 + np.cos(np.pi * TAKEN / 20))
    assert float(adopted.decay.fraction) == pytest.approx(lam * eta, rel=1e-6)
    for new, old, without in zip(*map(jax.tree.leaves, (after, params, plain)), strict=True):
        decay = lam * eta * np.asarray(old, np.float64)
        np.testing.assert_allclose(np.asarray(without, np.float64) - new, decay, atol=1e-6)


def test_sgdw_goes_on_to_rounding_as_its_buffer_holds_the_learning_rate():
    theirs, ours = optax.sgd(0.1, momentum=0.9), dwd.sgdw(0.1, 0.0)
    params, state = halfway(theirs)
    adopted = dwd.adopt(ours, params, state, count=TAKEN)
    expected = jax.tree.map(lambda trace: np.float32(0.1) * trace, state[0].trace)
    chex.assert_trees_all_equal(adopted.inner[0].momentum, expected)
    there, _ = train(theirs, params, state, MORE, TAKEN)
    here, _ = train(ours, params, adopted, MORE, TAKEN)
    chex.assert_trees_all_close(here, there, rtol=1e-5)


def test_under_a_schedule_the_buffer_holds_the_learning_rate_of_the_next_step():
    theirs = optax.sgd(SCHEDULE, momentum=0.9)
    ours = dwd.sgdw(SCHEDULE, 0.0, peak_learning_rate=0.1)
    params, state = halfway(theirs)
    adopted = dwd.adopt(ours, params, state)
    rate = 0.05 * (1 + np.cos(np.pi * TAKEN / 20))
    for m, trace in zip(*map(jax.tree.leaves, (adopted.inner[0].momentum, state[0])), strict=True):
        np.testing.assert_allclose(m, rate * np.asarray(trace), rtol=1e-6)
    # so the next step is theirs
    there, _ = train(theirs, params, state, 1, TAKEN)
    here, _ = train(ours, params, adopted, 1, TAKEN)
    chex.assert_trees_all_close(here, there, rtol=1e-5)


def test_what_optax_has_nothing_of_starts_now():
    theirs = optax.adam(0.1)
    params, state = halfway(theirs)
    ours = dwd.record(dwd.adamw(0.1, 0.01, rule=dwd.rules.towards_start()))
    adopted = dwd.adopt(ours, params, state)
    chex.assert_trees_all_equal(adopted.inner.decay.rule.start, params)
    assert float(adopted.total.c) == 0
    assert int(adopted.count) == TAKEN


def test_a_sphere_has_the_norms_of_the_weights_at_the_restored_step():
    theirs = optax.adam(0.1)
    params, state = halfway(theirs)
    ours = dwd.hyperball(optax.scale_by_adam(), 0.1)
    adopted = dwd.adopt(ours, params, state)
    check_fits(adopted, ours, params)
    chex.assert_trees_all_equal(optax.tree.get(adopted.inner, "mu"), optax.tree.get(state, "mu"))
    after, again = train(ours, params, adopted, MORE, TAKEN)
    norms = (jnp.linalg.norm(p["dense"]["kernel"]) for p in (after, params))
    np.testing.assert_allclose(*norms, rtol=1e-6)
    # those of the start stay, where the state has them
    chex.assert_trees_all_equal(dwd.adopt(ours, after, again), again)


def test_moments_in_bfloat16_become_float32_without_loss_and_not_the_other_way():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    theirs = optax.adam(0.1)
    params, state = halfway(theirs, params)
    ours = dwd.adamw(0.1, 0.01, rounding=dwd.rounding.residual())
    adopted = dwd.adopt(ours, params, state)
    check_fits(adopted, ours, params)
    wide = jax.tree.map(lambda m: m.astype(jnp.float32), state[0].mu)
    chex.assert_trees_all_equal(adopted.inner[0].mu, wide)
    narrow = dwd.adamw(0.1, 0.01, mu_dtype=jnp.bfloat16)
    message = r"state at '0/mu/dense/bias' is float32, and the optimiser keeps bfloat16.*mu_dtype="
    with pytest.raises(TypeError, match=message):
        dwd.adopt(narrow, *halfway(theirs))


class Weights(NamedTuple):
    """Params that are a named tuple, as a state is."""

    mu: jax.Array
    count: jax.Array


@pytest.mark.parametrize(
    "params",
    [
        Weights(jnp.ones(2), jnp.ones(3)),
        {"a": Weights(jnp.ones(2), jnp.ones(3)), "b": jnp.ones(1)},
        [jnp.ones(2), (jnp.ones(3),)],
        jnp.ones(3),
        {"w": jnp.ones(2), "none": None},
    ],
    ids=["named", "nested", "list", "array", "none"],
)
def test_params_are_any_tree(params):
    theirs, ours = optax.adam(0.1), dwd.adamw(0.1, 0.0)
    state = theirs.init(params)
    gradients = jax.tree.map(jnp.ones_like, params)
    _, state = theirs.update(gradients, state, params)
    adopted = dwd.adopt(ours, params, state)
    check_fits(adopted, ours, params)
    (there, _), (here, _) = (
        jax.jit(o.update)(gradients, s, params) for o, s in ((theirs, state), (ours, adopted))
    )
    chex.assert_trees_all_equal(here, there)


def test_integers_have_no_moments_here_where_optax_has_zeros():
    params = {"w": jnp.ones(2), "steps": jnp.array([1, 2])}
    adopted = dwd.adopt(dwd.adamw(0.1, 0.0), params, optax.adam(0.1).init(params))
    check_fits(adopted, dwd.adamw(0.1, 0.0), params)


def test_an_optimiser_of_the_user_s_whose_state_is_no_named_tuple_keeps_it():
    def init(params):
        return {"sum": jax.tree.map(jnp.zeros_like, params), "scale": jnp.ones(())}

    def update(updates, state, params=None):
        total = jax.tree.map(jnp.add, state["sum"], updates)
        step = jax.tree.map(lambda x: -0.1 * state["scale"] * x, total)
        return step, {"sum": total, "scale": state["scale"] * 0.5}

    theirs = optax.GradientTransformation(init, update)
    params, state = halfway(theirs)
    ours = dwd.decouple(theirs, 0.01)
    adopted = dwd.adopt(ours, params, state, count=TAKEN)
    chex.assert_trees_all_equal(adopted.inner, state)
    assert int(adopted.decay.count) == TAKEN


def test_it_works_inside_jit_and_gives_the_structure_for_a_checkpoint():
    theirs, ours = optax.adam(SCHEDULE), dwd.adamw(SCHEDULE, 0.01, peak_learning_rate=0.1)
    params, state = halfway(theirs)
    compiled = jax.jit(lambda params, state: dwd.adopt(ours, params, state))(params, state)
    chex.assert_trees_all_equal(compiled, dwd.adopt(ours, params, state))
    sgdw = dwd.sgdw(0.1, 0.01)
    params, state = halfway(optax.sgd(0.1, momentum=0.9))
    compiled = jax.jit(lambda p, s, n: dwd.adopt(sgdw, p, s, count=n))(params, state, TAKEN)
    chex.assert_trees_all_equal(compiled, dwd.adopt(sgdw, params, state, count=TAKEN))
    shapes = jax.eval_shape(lambda p, s: dwd.adopt(sgdw, p, s, count=0), params, state)
    assert jax.tree.structure(shapes) == jax.tree.structure(compiled)


def test_an_adopted_state_can_be_donated():
    theirs, ours = optax.adam(SCHEDULE), dwd.adamw(SCHEDULE, 0.01, peak_learning_rate=0.1)
    params, state = halfway(theirs)
    adopted = dwd.adopt(ours, params, state)
    step = jax.jit(lambda s, p: ours.update(p, s, p), donate_argnums=0)
    _, after = step(adopted, params)
    assert int(after.decay.count) == TAKEN + 1


def test_an_adopted_state_is_adopted_again_as_it_is():
    ours = dwd.adamw(0.1, 0.01, rule=dwd.rules.towards_start())
    params, state = halfway(ours)
    chex.assert_trees_all_equal(dwd.adopt(ours, params, state), state)


def test_a_given_count_sets_schedules_and_decay_and_leaves_the_moments_theirs():
    theirs, ours = optax.adam(SCHEDULE), dwd.adamw(SCHEDULE, 0.01, peak_learning_rate=0.1)
    params, state = halfway(theirs)
    adopted = dwd.adopt(ours, params, state, count=0)
    adam, schedule = adopted.inner
    assert (int(adam.count), int(schedule.count), int(adopted.decay.count)) == (TAKEN, 0, 0)


def test_micro_batches_may_be_those_of_optax_as_it_makes_them():
    params, state = halfway(optax.MultiSteps(optax.adam(0.1), 2))
    ours = optax.MultiSteps(dwd.adamw(0.1, 0.01), 2)
    check_fits(dwd.adopt(ours, params, state), ours, params)


ADAM, ADAMW = optax.adam(0.1), dwd.adamw(0.1, 0.01)
STATE = ADAM.init(PARAMS)
OTHER = {"dense": PARAMS["dense"], "scale": jnp.ones(4)}
SAME_MODEL = "; pass the params that the state is for"


@pytest.mark.parametrize(
    ("optimizer", "state", "options", "kind", "message"),
    [
        (ADAMW, ADAM.init(OTHER), {}, ValueError, r"'0/mu/scale' has shape \(4,\), .* need \(3,\)"),
        (
            ADAMW,
            ADAM.init({"dense": PARAMS["dense"]}),
            {},
            ValueError,
            r"state at '0/mu' must have the structure of the params; it lacks \['scale'\]",
        ),
        (
            ADAMW,
            ADAM.init(PARAMS | {"head": jnp.ones(2)}),
            {},
            ValueError,
            r"at '0/mu' .*the params have no \['head'\]" + SAME_MODEL,
        ),
        (
            ADAMW,
            (STATE[0]._replace(nu=jax.tree.map(lambda x: x[:1], STATE[0].nu)), STATE[1]),
            {},
            ValueError,
            r"state at '0/nu/dense/bias' has shape \(1,\)",
        ),
        (
            ADAMW,
            optax.sgd(0.1, momentum=0.9).init(PARAMS),
            {"count": 5},
            ValueError,
            r"no ScaleByAdamState\(count, mu, nu\) for 'inner/0' of .* \{'0': 'TraceState\(trace\)'",
        ),
        # not Adam's, although its fields have the same names
        (
            ADAMW,
            optax.adabelief(0.1).init(PARAMS),
            {},
            ValueError,
            r"it has \{'0': 'ScaleByBeliefState\(count, mu, nu\)'\}; put dwd.decouple around",
        ),
        (ADAMW, PARAMS, {"count": 5}, ValueError, r"it has \{'': 'arrays'\}; put"),
        (ADAMW, (), {"count": 5}, ValueError, "for 'inner/0' of the optimiser; it has {}; put"),
        (
            ADAMW,
            lion().init(PARAMS),
            {},
            ValueError,
            r"it has \{'0': 'ScaleByLionState\(count, mu\)', '2': 'ScaleByScheduleState\(count\)'\}",
        ),
        (
            dwd.decouple(optax.sgd(0.1), 0.01),
            STATE,
            {},
            ValueError,
            r"state has ScaleByAdamState\(count, mu, nu\) at '0', for which the optimiser has no place",
        ),
        (
            ADAMW,
            optax.MultiSteps(ADAM, 2).init(PARAMS),
            {},
            ValueError,
            r"MultiStepsState\(acc_grads, gradient_step, mini_step.*\) at '', for which",
        ),
        (
            dwd.sgdw(0.1, 0.01),
            optax.chain(optax.trace(0.9), optax.trace(0.5)).init(PARAMS),
            {"count": 1},
            ValueError,
            r"state has TraceState\(trace\) at '1', for which",
        ),
        (
            ADAMW,
            optax.masked(ADAM, MASK).init(PARAMS),
            {},
            ValueError,
            "state has nothing at 'inner_state/0/mu/scale', where the optimiser has a moment",
        ),
        (
            dwd.decouple(optax.masked(ADAM, MASK), 0.01),
            STATE,
            {},
            ValueError,
            "state has a moment at '0/mu/scale', where the optimiser has none",
        ),
        (
            dwd.decouple(optax.sgd(0.1, momentum=0.9), 0.01),
            optax.sgd(0.1, momentum=0.9).init(PARAMS),
            {},
            ValueError,
            "state counts no steps; pass count=, the number of steps taken",
        ),
        (
            dwd.adamw(SCHEDULE, 0.01, peak_learning_rate=0.1),
            (STATE[0]._replace(count=jnp.array(7)), optax.ScaleByScheduleState(jnp.array(3))),
            {},
            ValueError,
            r"different numbers of steps, \{'0/count': 7, '1/count': 3\}; pass count=",
        ),
        (
            dwd.sgdw(optax.linear_schedule(0.0, 0.1, 9), 0.01, peak_learning_rate=0.1),
            optax.sgd(0.1, momentum=0.9).init(PARAMS),
            {"count": 0},
            ValueError,
            r"the next step: .* above 0, and is found to be 0 to 0; put .* optax.sgd instead",
        ),
        (ADAMW, STATE, {"count": 1.5}, TypeError, "count must be a whole number, got 1.5; pass"),
        (ADAMW, STATE, {"count": True}, TypeError, "count must be a whole number, got True"),
        (ADAMW, STATE, {"count": jnp.ones(2, int)}, TypeError, "count must be a whole number"),
        (ADAMW, STATE, {"count": -1}, ValueError, r"count must be in 0…2147483647, got -1; pass"),
        (ADAMW, STATE, {"count": 2**31}, ValueError, r"count must be in 0…2147483647"),
        (dwd.adamw, STATE, {}, TypeError, "optimizer must be a GradientTransformation, got"),
        (optax.MultiSteps(ADAMW, 2), STATE, {}, ValueError, "state has no MultiStepsState"),
    ],
)
def test_what_cannot_be_placed_is_refused_by_its_name(optimizer, state, options, kind, message):
    with pytest.raises(kind, match=message):
        dwd.adopt(optimizer, PARAMS, state, **options)


@pytest.mark.parametrize(
    "link", [optax.scale_by_sign(), optax.normalize_by_update_norm(), optax.centralize()]
)
def test_a_learning_rate_that_something_in_front_changes_is_not_guessed(link):
    """What comes before the buffer makes another gradient of each weight."""
    uneven = optax.chain(link, dwd.sgdw(0.1, 0.01))
    state = optax.sgd(0.1, momentum=0.9).init(PARAMS)
    with pytest.raises(ValueError, match="must be one number above 0"):
        dwd.adopt(uneven, PARAMS, state, count=3)


# Eight devices.


SHARDED = """
    import jax, jax.numpy as jnp, numpy as np, optax
    from jax.sharding import NamedSharding, PartitionSpec
    import decoupled_wd as dwd

    assert len(jax.devices()) == 8
    mesh = jax.make_mesh((8,), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data", None))
    params = {"kernel": jax.random.normal(jax.random.key(0), (16, 4))}
    sharded = jax.device_put(params, sharding)
    schedule = optax.cosine_decay_schedule(0.1, 20)

    def train(optimizer, params, state, steps, first):
        step = jax.jit(lambda g, s, p: optimizer.update(g, s, p), donate_argnums=1)
        for number in range(first, first + steps):
            gradients = jax.tree.map(lambda p: jnp.sin(p * (number + 1)), params)
            updates, state = step(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    pairs = {
        "adamw": (optax.adam(schedule), dwd.adamw(schedule, 0.02, peak_learning_rate=0.1)),
        "sgdw": (optax.sgd(0.125, momentum=0.9), dwd.sgdw(0.125, 0.02)),
        "lion": (optax.lion(0.1, weight_decay=0.0), dwd.decouple(optax.lion(0.1, weight_decay=0.0), 0.02)),
    }
    for name, (theirs, ours) in pairs.items():
        ends = []
        for start in (params, sharded):
            halfway, state = train(theirs, start, theirs.init(start), 5, 0)
            adopted = dwd.adopt(ours, halfway, state, count=5)
            for leaf in jax.tree.leaves(adopted):
                if leaf.shape == (16, 4) and start is sharded:
                    assert leaf.sharding.is_equivalent_to(sharding, 2), (name, leaf.sharding)
            ends.append(train(ours, halfway, adopted, 4, 5))
        one, eight = (end["kernel"] for end, _ in ends)
        assert eight.sharding.is_equivalent_to(sharding, 2)
        np.testing.assert_array_equal(one, eight)
        assert int(ends[1][1].decay.count) == 9
    print("same")
"""


@pytest.mark.slow
def test_eight_devices_keep_their_shards_and_give_the_numbers_of_one():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    program = textwrap.dedent(SHARDED)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=flags
    )
    assert done.stdout.strip() == "same", done.stderr
