"""One look at a run: its numbers against NumPy and `theory`, its words against runs brought into each condition."""

import math

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import nnx

import decoupled_wd as dwd
from decoupled_wd import theory
from decoupled_wd.diagnostics.examine import Examination, examine

LR, LAMBDA = 1e-2, 1e-3
SHAPES = {"bias": (7,), "first": (16, 24), "second": (12, 20)}
STATIONARY = 1000


def tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: scale * rng.normal(size=shape) for name, shape in SHAPES.items()}


PARAMS, MEAN = tree(0), tree(1, 1e-2)
SQUARE = jax.tree.map(np.square, tree(2))


def as_jax(values, dtype=jnp.float32):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), values)


def with_moments(state, mu=MEAN, nu=SQUARE, count=STATIONARY):
    """The state with Adam's moments and all counts put in."""
    values = {"mu": mu, "nu": nu}

    def filled(path, old):
        field = next((k.name for k in path if getattr(k, "name", "") in values), None)
        name = next((k.key for k in path if hasattr(k, "key") and k.key in mu), None)
        if getattr(path[-1], "name", None) == "count":
            return jnp.asarray(count, old.dtype)
        return old if None in (field, name) else jnp.asarray(values[field][name], old.dtype)

    return jax.tree.map_with_path(filled, state)


def expected(theta, m, v, c, lr=LR, b1=0.9, b2=0.999, t=STATIONARY):
    """A step of AdamW in float64 whose gradient is the mean of the latest, and what is said of it."""
    g = m / (1 - b1**t)
    m_next, v_next = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
    delta = -lr * m_next / (1 - b1 ** (t + 1)) / (np.sqrt(v_next / (1 - b2 ** (t + 1))) + 1e-8)
    new = theta + delta - c * theta
    a, b, size = theta.ravel(), new.ravel(), np.linalg.norm
    predicted = math.sqrt(2 * c * (1 - b1) / (1 + b1))
    return {
        "fraction": c,
        "norm": size(a),
        "equilibrium_norm": size(delta) / predicted if c else math.nan,
        "relative_step": size(delta) / size(a),
        "rotation": math.acos(a @ b / size(a) / size(b)),
        "predicted_rotation": predicted if c else math.nan,
        "growth": a @ (b - a) / (a @ a),
    }


BOTH = {"kernels": dwd.adamw(LR, LAMBDA), "others": dwd.adamw(LR, 0.0)}
LABELS = {name: "others" if name == "bias" else "kernels" for name in SHAPES}
KERNELS = {name: name != "bias" for name in SHAPES}
OPTAX = optax.adamw(LR, weight_decay=LAMBDA / LR, mask=KERNELS)
OURS = dwd.adamw(LR, LAMBDA, mask=dwd.masks.without("bias"))
OPTAX_FREE = optax.adamw(LR, weight_decay=LAMBDA / LR)
ADAMW = {
    "ours": OURS,
    "optax": OPTAX,
    "chain": optax.chain(optax.clip_by_global_norm(1.0), OPTAX),
    "decay_weights": optax.chain(optax.adam(LR), dwd.decay_weights(LAMBDA, mask=KERNELS)),
    "inject": optax.inject_hyperparams(dwd.adamw, static_args=("mask",))(
        LR, LAMBDA, peak_learning_rate=LR, mask=dwd.masks.without("bias")
    ),
    "inject optax": optax.inject_hyperparams(optax.adamw, static_args=("mask",))(
        LR, weight_decay=LAMBDA / LR, mask=lambda p: KERNELS
    ),
    "partition": optax.partition(BOTH, LABELS),
    "partition of both": optax.partition(
        BOTH | {"kernels": optax.adamw(LR, weight_decay=LAMBDA / LR)}, LABELS
    ),
    "record": dwd.record(OURS),
    "apply_if_finite": optax.apply_if_finite(OURS, 3),
    "jit": optax.GradientTransformation(OURS.init, jax.jit(OURS.update)),
    "named_chain": optax.named_chain(("a", optax.identity()), ("b", OPTAX)),
}


@pytest.mark.parametrize("name", ADAMW)
def test_the_numbers_are_those_of_numpy_however_the_optimiser_is_wrapped(name):
    optimizer, params = ADAMW[name], as_jax(PARAMS)
    report = examine(optimizer, params, with_moments(optimizer.init(params)))
    assert [row.path for row in report.rows] == list(SHAPES)
    for row in report.rows:
        c = 0.0 if row.path == "bias" else LAMBDA
        wanted = expected(*(x[row.path] for x in (PARAMS, MEAN, SQUARE)), c)
        got = {field: getattr(row, field) for field in wanted}
        assert got == pytest.approx(wanted, rel=2e-3, abs=1e-7, nan_ok=True), row.path
    assert report.alarms == {}


def test_a_gradient_that_is_given_is_the_one_of_the_step():
    optimizer, params, gradients = optax.sgd(LR), as_jax(PARAMS), as_jax(MEAN)
    report = examine(optimizer, params, optimizer.init(params), gradients)
    for row in report.rows:
        step = LR * np.linalg.norm(MEAN[row.path])
        assert row.relative_step == pytest.approx(step / np.linalg.norm(PARAMS[row.path]), rel=1e-5)
    assert "no leaf decays" in report.notes


def momentum_state(optimizer, params, gradients, steps=200):
    """The state after steps of the same gradients, the weights held."""
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for _ in range(steps):
        _, state = update(gradients, state, params)
    return state


PREDICTED = {
    "adamw": (dwd.adamw(LR, LAMBDA, b1=0.8), lambda s: theory.rotation(LAMBDA, 0.8)),
    "sgdw": (dwd.sgdw(LR, LAMBDA, momentum=0.7), lambda s: theory.rotation(LAMBDA, 0.7)),
    "sgd": (dwd.sgd(LR, LAMBDA, momentum=0.9), lambda s: theory.rotation(LR * LAMBDA / 0.1, 0.9)),
    "optax.sgd": (
        optax.chain(optax.add_decayed_weights(LAMBDA), optax.sgd(LR, momentum=0.8)),
        lambda s: theory.rotation(LR * LAMBDA / 0.2, 0.8),
    ),
    "nesterov": (
        dwd.decouple(optax.sgd(LR, momentum=0.8, nesterov=True), LAMBDA, learning_rate=LR),
        lambda s: theory.rotation(LAMBDA, 0.8, nesterov=True),
    ),
    "nadamw": (
        dwd.decouple(optax.adam(LR, b1=0.7, nesterov=True), LAMBDA, learning_rate=LR),
        lambda s: theory.rotation(LAMBDA, 0.7, nesterov=True),
    ),
    "lion": (
        optax.chain(
            optax.clip_by_global_norm(1.0), optax.lion(LR, b1=0.85, b2=0.97, weight_decay=0.1)
        ),
        lambda s: theory.lion_rotation(LR * 0.1, 0.85, 0.97),
    ),
    "muon": (
        dwd.decouple(optax.contrib.muon(LR, beta=0.9), LAMBDA),
        lambda s: (
            theory.muon_rotation(LAMBDA, shape=s, momentum=0.9)
            if len(s) == 2
            else theory.rotation(LAMBDA, 0.9, nesterov=True)
        ),
    ),
    "hyperball": (dwd.hyperball(optax.scale_by_adam(), LR, mask=KERNELS), lambda s: math.atan(LR)),
}


@pytest.mark.parametrize("name", PREDICTED)
def test_the_prediction_is_that_of_theory_with_the_optimisers_own_numbers(name):
    optimizer, angle = PREDICTED[name]
    params = as_jax(PARAMS)
    state = momentum_state(optimizer, params, as_jax(tree(3)))
    for row in examine(optimizer, params, state).rows:
        wanted = angle(SHAPES[row.path])
        if name == "hyperball" and row.path == "bias":
            assert math.isnan(row.predicted_rotation)
        else:
            assert row.predicted_rotation == pytest.approx(wanted, rel=5e-3), row.path


def test_sgds_norm_at_equilibrium_is_that_of_theory():
    optimizer, params, gradients = dwd.sgdw(0.1, LAMBDA, momentum=0.5), as_jax(PARAMS), as_jax(MEAN)
    state = momentum_state(optimizer, params, gradients)
    for row in examine(optimizer, params, state).rows:
        # the same gradient at every step: momentum of 1/(1 − β1) times it, not of a random walk
        size = np.linalg.norm(MEAN[row.path]) * np.linalg.norm(PARAMS[row.path]) * math.sqrt(3)
        wanted = theory.sgdw_norm(LAMBDA, learning_rate=0.1, gradient_norm=size, momentum=0.5)
        assert row.equilibrium_norm == pytest.approx(wanted, rel=1e-3)


def test_the_step_after_the_first_is_that_of_numpy():
    optimizer, params = dwd.adamw(LR, LAMBDA, b2=0.95), as_jax(PARAMS)
    state = momentum_state(optimizer, params, as_jax(MEAN), 1)
    for row in examine(optimizer, params, state).rows:
        # after one step m̂ is the gradient and v̂ its square, so that each weight moves by lr
        step = LR * math.sqrt(MEAN[row.path].size) / np.linalg.norm(PARAMS[row.path])
        assert row.relative_step == pytest.approx(step, rel=1e-4)


def test_a_record_hides_no_rule():
    params = as_jax(PARAMS)
    for inner in (
        dwd.adamw(LR, LAMBDA, rule=dwd.rules.towards_start()),
        dwd.hyperball(optax.scale_by_adam(), LR),
    ):
        optimizer = dwd.record(inner)
        rows = examine(optimizer, params, optimizer.init(params), params).rows
        wanted = examine(inner, params, inner.init(params), params).rows
        # NaN is not equal to itself, and is told apart by its text
        assert repr(rows) == repr(wanted)


def simulated(gradients, steps, decayed, start, c=LAMBDA, lr=LR):
    """AdamW in NumPy float64: weights, moments and the norms at every step of its matrices."""
    rng, theta = np.random.default_rng(5), {name: x.copy() for name, x in start.items()}
    m, v = ({name: np.zeros_like(x) for name, x in start.items()} for _ in range(2))
    norms = {name: [] for name in start}
    for t in range(1, steps + 1):
        for name, x in theta.items():
            g = gradients[name](x, rng)
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            delta = lr * m[name] / (1 - 0.9**t) / (np.sqrt(v[name] / (1 - 0.999**t)) + 1e-8)
            theta[name] = x - delta - c * decayed[name] * x
            norms[name].append(np.linalg.norm(theta[name]))
    return theta, m, v, norms


def noise(x, rng):
    """Noise orthogonal to the weights, whatever their norm, as behind a normalisation."""
    g = rng.normal(size=x.shape)
    return g - np.vdot(g, x) / np.vdot(x, x) * x


def one_way(x, rng):
    """The same gradient at every step, with a little noise."""
    return -np.sign(np.cos(np.arange(x.size).reshape(x.shape))) * (1 + rng.normal(size=x.shape))


def examined(gradients, steps, decayed, start, c=LAMBDA):
    """Examine the end of a simulation, as a run of optax's AdamW."""
    theta, m, v, norms = simulated(gradients, steps, decayed, start, c)
    mask = {name: bool(x) for name, x in decayed.items()}
    optimizer, params = optax.adamw(LR, weight_decay=c / LR, mask=mask), as_jax(theta)
    state = with_moments(optimizer.init(params), m, v, steps)
    return examine(optimizer, params, state), norms


def matrices(norm, number=3, shape=(16, 24)):
    values = {f"w{i}": np.random.default_rng(i).normal(size=shape) for i in range(number)}
    return {name: norm * x / np.linalg.norm(x) for name, x in values.items()}


AT_EQUILIBRIUM = theory.adamw_norm(LAMBDA, learning_rate=LR, size=16 * 24)


def test_a_run_at_its_equilibrium_has_the_norm_and_rotation_of_theory_and_no_findings():
    start = matrices(AT_EQUILIBRIUM)
    report, _ = examined(dict.fromkeys(start, noise), 2000, dict.fromkeys(start, 1), start)
    for row in report.rows:
        assert row.norm / row.equilibrium_norm == pytest.approx(1, abs=0.12)
        assert row.rotation / row.predicted_rotation == pytest.approx(1, abs=0.12)
        assert row.findings == ()


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_a_norm_off_its_equilibrium_settles_in_as_many_steps_as_told(factor):
    start = matrices(factor * AT_EQUILIBRIUM)
    run = dict.fromkeys(start, noise), dict.fromkeys(start, 1), start
    report, _ = examined(run[0], 100, *run[1:])
    norms = simulated(run[0], 2500, *run[1:])[-1]
    for row in report.rows:
        inside = np.abs(np.log(np.array(norms[row.path]) / AT_EQUILIBRIUM)) < np.log(1.1)
        (words,) = row.findings
        told = float(words.removeprefix("settles in ").partition(" ")[0].replace(",", ""))
        assert told == pytest.approx(np.argmax(inside) - 100, rel=0.2, abs=30)
    assert report.alarms == {}


def test_a_matrix_that_no_decay_reaches_grows():
    start = matrices(AT_EQUILIBRIUM)
    ways = dict.fromkeys(start, noise) | {"w2": one_way}
    for decays, alarms in ((0, {"w2": ("grows: no decay reaches it",)}), (1, {})):
        report, _ = examined(ways, 1500, dict.fromkeys(start, 1) | {"w2": decays}, start)
        found = {path: words for path, words in report.alarms.items() if "grows" in words[0]}
        assert found == alarms
    early, _ = examined(ways, 500, dict.fromkeys(start, 1) | {"w2": 0}, start)
    assert early.alarms == {}


def test_a_matrix_at_rest_turns_more_slowly_than_the_median():
    start = matrices(AT_EQUILIBRIUM)
    # a constant step and decay rest at lr/c, where nothing turns
    start["w2"] = -np.sign(one_way(start["w2"], np.random.default_rng(0))) * LR / LAMBDA
    ways = dict.fromkeys(start, noise) | {
        "w2": lambda x, rng: -np.sign(x) + 0.01 * rng.normal(size=x.shape)
    }
    report, _ = examined(ways, 1200, dict.fromkeys(start, 1), start)
    ((path, (words,)),) = report.alarms.items()
    rows = {row.path: row for row in report.rows}
    slower = rows["w0"].rotation / rows["w2"].rotation
    assert path == "w2"
    assert words.startswith("turns ")
    assert words.endswith(" × slower than the median leaf")
    assert float(words.split()[1]) == pytest.approx(slower, rel=0.1)


@pytest.mark.parametrize("c", [1e-3, 2.2e-3, 3e-3, 1e-2])
def test_the_share_lost_in_bfloat16_is_that_of_a_numpy_enumeration(c):
    params = {"kernel": jnp.asarray(PARAMS["first"], jnp.bfloat16)}
    p = np.asarray(params["kernel"]).astype(np.float64)
    update = (c * p).astype(ml_dtypes.bfloat16).astype(np.float64)
    lost = np.mean((p - update).astype(ml_dtypes.bfloat16).astype(np.float64) == p)
    for rounding in (None, dwd.rounding.residual()):
        optimizer = dwd.adamw(LR, c, rounding=rounding)
        (row,) = examine(optimizer, params, optimizer.init(params), params).rows
        assert row.lost == pytest.approx(0 if rounding else lost)
        assert bool(row.alarms) == (row.lost > 0.5)
        if row.alarms:
            assert row.alarms[0].startswith("decay lost in bfloat16: rounding=dwd.rounding.resid")


def test_words_for_what_a_single_step_shows():
    params = as_jax(PARAMS)
    gradients = params | {"first": jnp.zeros_like(params["first"])}

    def words(optimizer, params=params, gradients=gradients):
        report = examine(optimizer, params, optimizer.init(params), gradients)
        return {row.path: row.findings for row in report.rows}, report

    dead, report = words(dwd.adamw(LR, LAMBDA))
    assert dead["first"] == ("decays, and no step reaches it",) == report.alarms["first"]
    assert words(optax.adam(LR))[0]["first"] == ("frozen",)
    whole = words(dwd.decouple(optax.adam(LR), 1.0, coupling=dwd.CONSTANT))[1]
    assert all("one step removes all of it" in x[0] for x in whole.alarms.values())
    held, report = words(dwd.hyperball(optax.identity(), LR, mask=KERNELS), gradients=params)
    assert held["second"] == ("held at its norm",)
    assert report.alarms == {}
    through = ("L2 or a trust ratio: no fraction",)
    # without a gradient Adam makes a decay of L2 look like one of lr
    assert {words(dwd.adam(LR, LAMBDA))[0][name] for name in ("first", "second")} == {through}
    assert words(optax.lamb(LR, weight_decay=0.1))[0]["second"] == through
    broken = params | {"second": params["second"].at[0, 0].set(jnp.nan)}
    assert words(dwd.adamw(LR, LAMBDA), broken)[1].alarms["second"] == ("not finite",)
    _, held_back = words(optax.MultiSteps(OURS, 2).gradient_transformation())
    assert held_back.alarms == {}
    assert any("optax.MultiSteps" in note for note in held_back.notes)


def test_a_decay_elsewhere_than_to_zero_has_no_prediction():
    params = as_jax(PARAMS)
    optimizer = dwd.adamw(LR, LAMBDA, rule=dwd.rules.towards_start())
    rows = examine(optimizer, params, optimizer.init(params), params).rows
    assert all(math.isnan(row.predicted_rotation) and row.fraction > 0 for row in rows)


def test_nothing_is_applied_and_the_report_prints():
    params = as_jax(PARAMS)
    state = with_moments(OURS.init(params))
    before = jax.tree.map(np.array, (params, state))
    report = examine(OURS, params, state)
    chex.assert_trees_all_equal((params, state), before)
    assert isinstance(report, Examination)
    text, page = repr(report), report._repr_html_()
    assert "predicted-rotation" in text.splitlines()[0]
    assert "2 of 3 leaves decay, 0 with an alarm" in text
    assert page.count("<tr>") == 4


def test_the_params_and_state_of_flax_nnx():
    model = nnx.Linear(6, 5, rngs=nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    optimizer = nnx.Optimizer(model, OPTAX_FREE, wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, params))
    params = nnx.state(model, nnx.Param)
    state = nnx.as_pure(optimizer.opt_state)
    for given in (params, nnx.as_pure(params)):
        report = examine(optimizer.tx, given, state)
        assert {row.path: row.fraction for row in report.rows} == pytest.approx(
            {"bias": LAMBDA, "kernel": LAMBDA}, rel=1e-5
        )


def test_rmsprops_momentum_holds_no_gradient_and_its_steps_are_averaged():
    optimizer, params = dwd.decouple(optax.rmsprop(LR, momentum=0.8), LAMBDA), as_jax(PARAMS)
    state = momentum_state(optimizer, params, as_jax(MEAN), 5)
    for row in examine(optimizer, params, state, as_jax(MEAN)).rows:
        assert row.predicted_rotation == pytest.approx(theory.rotation(LAMBDA, 0.8), rel=1e-4)
        step = row.relative_step * row.norm
        assert row.equilibrium_norm == pytest.approx(step / row.predicted_rotation)
    with pytest.raises(ValueError, match="pass those of the next step"):
        examine(optimizer, params, state)


def large_and_bfloat16():
    weights = jax.tree.map(lambda p: 100 * p, as_jax(PARAMS))
    return weights, jax.tree.map(lambda p: p.astype(jnp.bfloat16), weights)


def test_a_decay_that_rounding_takes_settles_never():
    for params, settles in zip(large_and_bfloat16(), (True, False), strict=True):
        report = examine(OPTAX, params, with_moments(OPTAX.init(params)))
        for row in report.rows[1:]:
            assert row.norm > 2 * row.equilibrium_norm
            assert any("settles in" in text for text in row.findings) == settles
            assert bool(row.alarms) != settles


@pytest.mark.parametrize("nesterov", [True, False])
def test_l2_through_momentum_takes_what_an_idle_weight_loses(nesterov):
    l2 = optax.add_decayed_weights(1e-2, mask=KERNELS)
    optimizer = optax.chain(l2, optax.sgd(LR, momentum=0.9, nesterov=nesterov))
    params, still = as_jax(PARAMS), jax.tree.map(jnp.zeros_like, as_jax(PARAMS))

    def idle(carry, _):
        params, state = carry
        updates, state = optimizer.update(still, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), jnp.linalg.norm(params["first"])

    norms = jax.lax.scan(idle, (params, optimizer.init(params)), length=400)[1]
    lost = 1 - float(norms[-1] / norms[199]) ** (1 / 200)
    report = examine(optimizer, params, momentum_state(optimizer, params, as_jax(MEAN)))
    fractions = {row.path: row.fraction for row in report.rows}
    assert fractions == pytest.approx({"bias": 0, "first": lost, "second": lost}, rel=0.02)


@pytest.mark.parametrize("weight_decay", [1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_a_decay_far_below_the_step_is_measured_too(weight_decay, dtype):
    l2 = optax.add_decayed_weights(weight_decay, mask=KERNELS)
    params, gradients = as_jax(PARAMS, dtype), as_jax(tree(3))
    for optimizer, times in {
        optax.adamw(LR, weight_decay=weight_decay, mask=KERNELS): 1,
        optax.chain(optax.trace(0.9), l2, optax.scale_by_learning_rate(LR)): 1,
        optax.chain(l2, optax.sgd(LR, momentum=0.9)): 10,
    }.items():
        state = momentum_state(optimizer, params, gradients, 20)
        fractions = {row.path: row.fraction for row in examine(optimizer, params, state).rows}
        c = times * LR * weight_decay
        assert fractions == pytest.approx({"bias": 0, "first": c, "second": c}, rel=0.02)


def test_what_update_takes_besides_is_passed_on():
    optimizer = optax.chain(OPTAX, optax.contrib.reduce_on_plateau())
    params = as_jax(PARAMS)
    state = with_moments(optimizer.init(params))
    report = examine(optimizer, params, state, value=jnp.float32(1.0))
    fractions = {row.path: row.fraction for row in report.rows}
    assert fractions == pytest.approx({"bias": 0, "first": LAMBDA, "second": LAMBDA}, rel=1e-3)


@pytest.mark.parametrize("field", ["mu", "nu"])
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_state_that_is_not_finite_is_an_alarm(field, everywhere):
    optimizer, params = OPTAX, as_jax(PARAMS)
    state = with_moments(optimizer.init(params))

    def spoilt(path, x):
        names = [getattr(key, "name", getattr(key, "key", "")) for key in path]
        here = field in names and (everywhere or "second" in names)
        return jnp.full_like(x, jnp.nan) if here else x

    state = jax.tree.map_with_path(spoilt, state)
    for gradients in (None, as_jax(MEAN)):
        report = examine(optimizer, params, state, gradients)
        assert set(report.alarms) == (set(SHAPES) if everywhere else {"second"})
        for row in report.rows:
            assert all("its step is not finite" in text for text in row.alarms)
            assert not {"frozen", "L2 or a trust ratio: no fraction"}.intersection(row.findings)
        assert not any("moves nothing" in note for note in report.notes)


def test_the_mean_of_a_centred_rmsprop_averages_no_steps():
    optimizer = dwd.decouple(optax.rmsprop(LR, centered=True), LAMBDA)
    params, gradients = as_jax(PARAMS), as_jax(MEAN)
    state = momentum_state(optimizer, params, gradients, 3)
    for row in examine(optimizer, params, state, gradients).rows:
        assert row.fraction == pytest.approx(LAMBDA)
        assert math.isnan(row.predicted_rotation)
    with pytest.raises(ValueError, match="pass those of the next step"):
        examine(optimizer, params, state)


def test_no_leaf_gives_no_row():
    for optimizer in (OPTAX_FREE, OURS):
        assert examine(optimizer, {}, optimizer.init({}), {}).rows == ()
