"""`decouple` around every optimiser that optax exports, found by looking, so that a new one is tested too."""

import functools
import inspect
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import COUPLINGS, PARAMS

import decoupled_wd as dwd

close = functools.partial(chex.assert_trees_all_close, rtol=2e-6, atol=1e-6)
ALPHA, LAMBDA, STEPS = 0.1, 0.2, 2
MASK = {"dense": {"bias": 0.5, "kernel": 1.0}, "scale": 0.0}

NOT_OPTIMISERS = {
    "differentially_private_aggregate": "a link before an optimiser",
    "hutchinson_estimator_diag_hessian": "an estimate, no step",
    "normalize": "a link before an optimiser",
    "reduce_on_plateau": "a link behind an optimiser: tested in a chain",
    "schedule_free_eval_params": "no transformation",
}
ARGUMENTS = {  # a value for every argument that has no default, by its name
    "learning_rate": ALPHA,
    "base_optimizer": optax.sgd(ALPHA),
    "inner": optax.sgd(ALPHA),
    "optimizer": optax.sgd(ALPHA),
    "adv_optimizer": optax.chain(optax.contrib.normalize(), optax.sgd(0.01)),
    "l2_norm_clip": 1e3,
    "noise_multiplier": 0.0,
    "seed": 0,
}
OPTIONS = {  # where an optimiser takes them: no decay of its own, and the key that noise needs
    "weight_decay": 0.0,
    "weight_decay_rate": None,
    "adam_weight_decay": 0.0,
    "key": 0,
}


def functions(module):
    """The public functions of a module, partial ones (optax.nadam) included."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return {name: f for name, f in public.items() if inspect.isfunction(getattr(f, "func", f))}


def optimisers():
    found = {
        name: function
        for name, function in functions(optax).items()
        if getattr(function, "func", function).__module__ == "optax._src.alias"
    }
    found |= functions(optax.contrib)
    return {
        name: function
        for name, function in found.items()
        if not name.startswith("scale_by_") and name not in NOT_OPTIMISERS
    }


OPTIMISERS = optimisers()


def build(name, **options):
    """The optimiser without decay of its own, and without noise."""
    parameters = inspect.signature(OPTIMISERS[name]).parameters
    required = [key for key, p in parameters.items() if p.default is p.empty]
    options |= {key: ARGUMENTS[key] for key in required if key not in options}
    options |= {key: OPTIONS[key] for key in OPTIONS if key in parameters}
    options |= {"eta": 0.0} if name == "noisy_sgd" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # optimistic_adam
        return OPTIMISERS[name](**options)


def loss(params):
    return 0.5 * optax.tree.norm(optax.tree.add_scale(params, -1.0, FAR), squared=True)


FAR = jax.tree.map(lambda p: jnp.cos(p) + 2, PARAMS)


def still(params):
    return 0.0 * optax.tree.sum(params)


def arguments(name, objective, params):
    """Gradients, and the extra arguments that an optimiser asks for."""
    value, grad = jax.value_and_grad(objective)(params)
    extra = {"value": value, "grad": grad, "value_fn": objective}
    extra = {"sophia": {"obj_fn": objective}, "sam": {}}.get(name, extra)
    each = name == "dpsgd"  # gradients of every example
    return (jax.tree.map(lambda g: jnp.stack([g, g]), grad) if each else grad), extra


def steps(name, optimizer, inner, objective=loss):
    """What both emit at the params of the first, step by step."""

    def run(params):
        rows, states = [], (optimizer.init(params), inner.init(params))
        for _ in range(STEPS):
            g, extra = arguments(name, objective, params)
            ours, first = optimizer.update(g, states[0], params, **extra)
            plain, second = optax.with_extra_args_support(inner).update(
                g, states[1], params, **extra
            )
            states = first, second
            rows.append((ours, plain, params))
            params = optax.apply_updates(params, ours)
        return rows, params

    return jax.jit(run)(PARAMS)


def assert_decays(rows, fractions, mask):
    for (ours, plain, params), c in zip(rows, fractions, strict=True):
        expected = jax.tree.map(
            lambda u, m, p: np.asarray(u, np.float64) - c * m * np.asarray(p, np.float64),  # noqa: B023
            plain,
            mask,
            params,
        )
        close(ours, expected)


def test_every_optimiser_of_optax_is_found():
    assert len(OPTIMISERS) >= 50
    assert set(OPTIMISERS) >= {
        "adamw",
        "nadam",
        "lbfgs",
        "polyak_sgd",
        "muon",
        "sophia",
        "prodigy",
        "sam",
    }
    assert all(hasattr(optax.contrib, name) for name in NOT_OPTIMISERS)


ETA = [1.0, 0.75]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_update_is_the_inner_one_minus_the_decay(name):
    inner = build(name)
    rows, _ = steps(name, dwd.decouple(inner, LAMBDA, mask=MASK), inner)
    assert_decays(rows, [LAMBDA] * STEPS, MASK)
    schedule = functools.partial(optax.linear_schedule, end_value=0.0, transition_steps=4)
    scheduled = dwd.decouple(
        inner, schedule(LAMBDA), learning_rate=schedule(ALPHA), peak_learning_rate=ALPHA
    )
    rows, _ = steps(name, scheduled, inner)
    assert_decays(rows, [LAMBDA * eta**2 for eta in ETA], jax.tree.map(jnp.ones_like, PARAMS))


MOVES = {
    "dadapt_adamw": "divides 0 by 0 without gradients",
    "fromage": "shrinks the weights by itself",
    "prodigy": "divides 0 by 0 without gradients",
    "yogi": "starts its moments at 1e-6",
}
INSIDE = {
    "cocob": "computes where the weights should be from where they began",
    "madgrad": "averages the weights with a place computed from where they began",
    "mechanize": "computes where the weights should be; decay inside: mechanize(decouple(...))",
    "sam": "returns to the weights it has kept; decay inside: sam(decouple(...), ...)",
    "schedule_free": "keeps its own iterates; decay inside: schedule_free(decouple(...), ...)",
    "schedule_free_adamw": "schedule_free with Adam inside",
    "schedule_free_sgd": "schedule_free with SGD inside",
}


@pytest.mark.parametrize("name", [name for name in OPTIMISERS if name not in MOVES])
def test_without_gradients_the_decay_stays(name):
    """An optimiser that says where to go, not how far, takes back what happens outside: INSIDE names them."""
    inner = build(name)
    _, last = steps(name, dwd.decouple(inner, LAMBDA), inner, still)
    expected = jax.tree.map(lambda p: (1 - LAMBDA) ** STEPS * p, PARAMS)
    if name in INSIDE:
        assert not jnp.abs(last["scale"] - expected["scale"]) < 1e-3
    else:
        close(last, expected)


STUDY = {
    name: build(name) for name in ("rmsprop", "adagrad", "radam", "nadam", "lion", "muon", "sgd")
}


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", STUDY)
def test_every_coupling_with_the_mask_on_every_branch(name, coupling):
    """Muon steps kernels and Adam the rest: 0.5 of the decay for the bias, none for the scale."""
    lr = optax.linear_schedule(ALPHA, 0.0, 4)
    options = {"learning_rate": lr, "peak_learning_rate": ALPHA, "coupling": COUPLINGS[coupling]}
    rows, _ = steps(name, dwd.decouple(STUDY[name], LAMBDA, mask=MASK, **options), STUDY[name])
    p, s = COUPLINGS[coupling].p, COUPLINGS[coupling].s
    assert_decays(rows, [LAMBDA * ALPHA**p * eta**s for eta in ETA], MASK)
    assert len(
        {leaf.item() for leaf in jax.tree.leaves(rows[0][0]["scale"] == rows[0][1]["scale"])}
    )


def test_trap_optax_masks_only_one_branch_of_muon():
    """optax: the mask leaves Adam's branch alone, whose decay is another argument."""
    theirs = optax.contrib.muon(
        ALPHA, weight_decay=1.0, weight_decay_mask=MASK_BOOL, adam_weight_decay=1.0
    )
    ours = dwd.decouple(build("muon"), 1.0, learning_rate=ALPHA, coupling=dwd.LR, mask=MASK_BOOL)
    still_gradients = jax.tree.map(jnp.zeros_like, PARAMS)
    decayed = [
        jax.tree.map(lambda u: bool(jnp.any(u)), updates)
        for updates, _ in (
            tx.update(still_gradients, tx.init(PARAMS), PARAMS) for tx in (theirs, ours)
        )
    ]
    assert decayed[0] == {"dense": {"bias": True, "kernel": True}, "scale": True}
    assert decayed[1] == MASK_BOOL


MASK_BOOL = {"dense": {"bias": False, "kernel": True}, "scale": False}


def test_extra_arguments_reach_the_inner_optimiser_and_only_it():
    seen = {}

    def update(updates, state, params=None, **extra):
        seen.update(extra)
        return updates, state

    spy = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    optimizer = dwd.decouple(spy, LAMBDA)
    given = {"value": 1.0, "grad": PARAMS, "value_fn": loss, "gradients": None}
    optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS, **given)
    assert seen == given
    plain = dwd.decouple(optax.GradientTransformation(*optax.sgd(ALPHA)), LAMBDA)
    plain.update(PARAMS, plain.init(PARAMS), PARAMS, value=1.0)


@pytest.mark.parametrize("name", ["momo", "polyak_sgd"])
def test_extra_arguments_are_needed_where_the_inner_optimiser_needs_them(name):
    optimizer = dwd.decouple(build(name), LAMBDA)
    with pytest.raises(TypeError, match="value"):
        optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)


def test_reduce_on_plateau_scales_the_step_and_not_the_decay():
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, accumulation_size=1)
    inner = optax.chain(optax.sgd(ALPHA), plateau)
    optimizer = dwd.decouple(inner, LAMBDA)
    state = optimizer.init(PARAMS)
    for _ in range(4):
        updates, state = optimizer.update(PARAMS, state, PARAMS, value=jnp.asarray(1.0))
    scale = state.inner[1].scale
    assert scale < 1
    close(updates, jax.tree.map(lambda p: -(ALPHA * scale + LAMBDA) * p, PARAMS))


def test_inner_transformations_get_the_gradients_untouched():
    """L2 would be seen by the inner optimiser; decoupled decay is not: its state is the one without decay."""
    inner = optax.adam(ALPHA)
    optimizer = dwd.decouple(inner, LAMBDA)
    _, state = optimizer.update(FAR, optimizer.init(PARAMS), PARAMS)
    _, alone = inner.update(FAR, inner.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(state.inner, alone)


def test_rules_see_the_final_step_and_the_raw_gradients_of_what_decays():
    seen = {}

    def update(updates, state, params=None, *, gradients, **extra):
        seen.update(step=updates["dense"], gradients=gradients["dense"], rest=gradients["scale"])
        return params, state

    rule = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    optimizer = dwd.decouple(optax.sgd(ALPHA), LAMBDA, rule=rule, mask=MASK)
    optimizer.update(FAR, optimizer.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(seen["gradients"], FAR["dense"])
    close(seen["step"], jax.tree.map(lambda g: -ALPHA * g, FAR["dense"]))
    assert seen["rest"] == optax.MaskedNode()
