"""No false alarm on healthy runs of the examples, in short, and the true one of bfloat16 weights."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import decoupled_wd as dwd

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.slow


def run(name, monkeypatch, until=None, **changes):
    """The names of an example after it ran, or a part of it, with other numbers in its text."""
    text = (EXAMPLES / f"{name}.py").read_text()
    text = text[: text.index(until)] if until else text
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    monkeypatch.setattr("sys.argv", [name])
    names = {}
    exec(compile(text, name, "exec"), names)
    return names


@pytest.mark.parametrize("steps", [20, 60])
def test_the_transformer(monkeypatch, steps):
    loop = ("range(1, STEPS + 1)", f"range(1, {steps} + 1)")
    names = run("character_transformer", monkeypatch, loop=loop)
    params = nnx.state(names["model"], nnx.Param)
    report = dwd.examine(names["transformation"], params, nnx.as_pure(names["optimizer"].opt_state))
    assert report.alarms == {}
    decayed = {row.path for row in report.rows if row.fraction > 0}
    assert decayed >= {"embed/embedding", "head/kernel"}
    assert len(report.rows) == len(jax.tree.leaves(params))


@pytest.mark.parametrize("epochs", [1, 8])
def test_equinox(monkeypatch, epochs):
    names = run("equinox_training", monkeypatch, loop=("range(30)", f"range({epochs})"))
    params = eqx.filter(names["model"], eqx.is_inexact_array)
    assert dwd.examine(names["optimizer"], params, names["state"]).alarms == {}


@pytest.mark.parametrize("epochs", [1, 8])
def test_linen(monkeypatch, epochs):
    names = run("linen_train_state", monkeypatch, loop=("range(30)", f"range({epochs})"))
    state = names["state"]
    assert dwd.examine(state.tx, state.params, state.opt_state).alarms == {}


@pytest.mark.parametrize("cycles", [1, 2])
def test_warm_restarts(monkeypatch, cycles):
    names = run("warm_restarts", monkeypatch, cycles=("100, 4, 4, 0.01", f"100, 4, {cycles}, 0.01"))
    assert dwd.examine(names["optimizer"], names["params"], names["state"]).alarms == {}


def test_timescale(monkeypatch):
    short = ("reshape(STEPS, BATCH)", "reshape(STEPS, BATCH)[:800]")
    names = run("timescale", monkeypatch, until="rows = dwd.recorded", short=short)
    report = dwd.examine(names["optimizer"], names["params"], names["state"])
    assert report.alarms == {}
    rows = {row.path: row for row in report.rows}
    # kernels before a normalisation are where theory wants them
    for path in ("layer0/kernel", "layer1/kernel"):
        assert rows[path].rotation == pytest.approx(rows[path].predicted_rotation, rel=0.3)


def looped(loss, optimizer, params, steps):
    """A run in one compiled loop, and what is said of its end."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = (params, optimizer.init(params))
    (params, state), _ = jax.lax.scan(step, carry, length=steps)
    return dwd.examine(optimizer, params, state, jax.grad(loss)(params))


@pytest.mark.parametrize("steps", [50, 1500])
def test_any_optimizer(monkeypatch, steps):
    names = run("any_optimizer", monkeypatch, until="# %%\ndef train")
    for inner in names["OPTIMIZERS"].values():
        optimizer = dwd.decouple(inner, 1e-3, mask=names["mask"])
        assert looped(names["loss"], optimizer, names["params"], steps).alarms == {}


@pytest.mark.parametrize("steps", [10, 300])
def test_fine_tuning(monkeypatch, steps):
    names = run("fine_tuning", monkeypatch, until="# %%\npretrained")
    data, model, rows = names["data"], names["model"], names["few"]
    x, y = jnp.asarray(data.x_train)[rows], jnp.asarray(data.y_train)[rows]

    def loss(params):
        return model.loss(params, x, y, jax.random.key(0))

    for rule in (dwd.rules.towards_zero(), dwd.rules.towards_start()):
        optimizer = dwd.adamw(1e-3, 1e-2, rule=rule)
        assert looped(loss, optimizer, model.init(jax.random.key(0)), steps).alarms == {}


def test_bfloat16(monkeypatch):
    names = run("bfloat16", monkeypatch, until="@jax.jit\n@jax.vmap\ndef drawn")
    task, model, start = names["task"], names["model"], names["model"].init(jax.random.key(0))
    for name, (dtype, rounding) in names["WEIGHTS"].items():
        optimizer = dwd.adamw(1.5e-3, 1.5e-3, rounding=rounding)

        def loss(params, dtype=dtype):
            x = jnp.asarray(task.x_train[:100], dtype)
            return model.loss(params, x, task.y_train[:100], jax.random.key(0))

        alarms = looped(loss, optimizer, names["cast"](start, dtype), 30).alarms
        lost = [words[0].startswith("decay lost in bfloat16") for words in alarms.values()]
        assert all(lost)
        assert len(lost) == (len(jax.tree.leaves(start)) if name == "bfloat16" else 0)
