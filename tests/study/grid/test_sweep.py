"""The compiled grid against a plain Python loop over optax, for models of every kind, and its cells apart."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from flax import nnx

import decoupled_wd as dwd
from decoupled_wd.study import Points, sweep

GRID = {"learning_rate": [0.01, 0.1, 0.3], "weight_decay": [0.0, 0.1]}
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)).astype(np.float32), RNG.normal(size=12).astype(np.float32)


def bare_dict():
    def init(key):
        return {"kernel": jax.random.normal(key, (3,)), "bias": jnp.zeros(())}

    return init, lambda params, x: x @ params["kernel"] + params["bias"]


def linen():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.tanh(nn.Dense(4)(x)))[..., 0]

    return lambda key: Model().init(key, X[:1]), Model().apply


def flax_nnx():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(3, 4, rngs=rngs)
            self.readout = nnx.Linear(4, 1, rngs=rngs)

        def __call__(self, x):
            return self.readout(nnx.tanh(self.hidden(x)))[..., 0]

    graphdef, _ = nnx.split(Model(nnx.Rngs(0)))
    return (
        lambda key: nnx.state(Model(nnx.Rngs(key))),
        lambda params, x: nnx.merge(graphdef, params, copy=True)(x),
    )


def equinox():
    def model(key):
        return eqx.partition(eqx.nn.MLP(3, "scalar", 4, 1, key=key), eqx.is_inexact_array)

    static = model(jax.random.key(0))[1]
    return lambda key: model(key)[0], lambda params, x: jax.vmap(eqx.combine(params, static))(x)


def costs(apply):
    """A loss that needs its key, and a metric of the test data."""

    def loss(params, x, y, key):
        noise = jax.random.normal(key, x.shape)
        return jnp.mean((apply(params, x + 0.1 * noise) - y) ** 2)

    def metric(params, train, test):
        return jnp.mean((apply(params, test[0]) - test[1]) ** 2)

    return {"loss": loss, "metric": metric}


def adamw(learning_rate, weight_decay):
    return dwd.adamw(learning_rate, weight_decay, peak_learning_rate=learning_rate)


def run(make=adamw, grid=GRID, model=bare_dict, **options):
    init, apply = model()
    settings = {"epochs": 3, "batch_size": 5, "seeds": 2, "train": (X, Y), "test": (X + 1, Y)}
    return sweep(make, grid, init=init, **(costs(apply) | settings | options))


@functools.cache
def plain():
    return run().metric


def loops(model, cells):
    """For each cell the metric after each of three epochs, from the keys that a seed stands for."""
    init, apply = model()
    cost = costs(apply)

    @jax.jit
    def step(params, state, x, y, key, rate, decay):
        gradients = jax.grad(cost["loss"])(params, x, y, key)
        updates, state = optax.adamw(rate, weight_decay=decay).update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for seed, rate, decay in cells:
        seed_key = jax.random.split(jax.random.key(0), 2)[seed]
        init_key, order_key, loss_key = jax.random.split(seed_key, 3)
        params, metrics, count = init(init_key), [], 0
        state = optax.adamw(rate).init(params)
        for epoch_key in jax.random.split(order_key, 3):
            order = jax.random.permutation(epoch_key, 12)
            for rows in (order[:5], order[5:10]):
                key = jax.random.fold_in(loss_key, count)
                params, state = step(params, state, X[rows], Y[rows], key, rate, decay / rate)
                count += 1
            metrics.append(cost["metric"](params, (X, Y), (X + 1, Y)))
        yield np.array(metrics)


@pytest.mark.parametrize("model", [bare_dict, linen, flax_nnx, equinox])
def test_a_sweep_is_a_python_loop_over_its_cells(model):
    swept = run(model=model, evaluate_every=1)
    cells = [(0, 0.01, 0.0), (1, 0.1, 0.1), (1, 0.3, 0.0)]
    for (seed, rate, decay), expected in zip(cells, loops(model, cells), strict=True):
        cell = swept.metric.sel(learning_rate=rate, weight_decay=decay, seed=seed)
        np.testing.assert_allclose(cell, expected, rtol=2e-5)


def test_axes_are_named_and_hold_their_values():
    swept = run(epochs=4, evaluate_every=2)
    assert isinstance(swept, xr.Dataset)
    assert swept.metric.dims == ("learning_rate", "weight_decay", "seed", "epoch")
    assert swept.metric.shape == (3, 2, 2, 2)
    assert list(swept.learning_rate.values) == GRID["learning_rate"]
    assert list(swept.epoch.values) == [2, 4]
    np.testing.assert_array_equal(swept.metric[..., :1], run(epochs=2).metric)


def assert_same_bits(listed, cells):
    np.testing.assert_array_equal(np.asarray(listed).view("u4"), np.asarray(cells).view("u4"))


RATES, DECAYS = [0.3, 0.01, 0.1, 0.3], [0.1, 0.0, 0.1, 0.0]


def test_points_are_the_same_cells_of_a_grid_bit_for_bit():
    """In the order in which they are listed, and none but those."""
    swept = run(grid=Points(learning_rate=RATES, weight_decay=DECAYS), evaluate_every=1)
    assert swept.metric.dims == ("trial", "seed", "epoch")
    assert swept.metric.shape == (4, 2, 3)
    assert swept.learning_rate.dims == swept.weight_decay.dims == ("trial",)
    assert (swept.learning_rate == RATES).all()
    assert (swept.weight_decay == DECAYS).all()
    cells = run(evaluate_every=1).metric.sel(
        learning_rate=xr.DataArray(RATES, dims="trial"),
        weight_decay=xr.DataArray(DECAYS, dims="trial"),
    )
    assert_same_bits(swept.metric, cells.transpose("trial", "seed", "epoch"))


def test_points_with_a_seed_are_trained_with_that_seed_alone():
    """A seed may come again, and the seeds in any order."""
    seeds = [1, 0, 1, 1]
    listed = Points(learning_rate=RATES, seed=seeds, weight_decay=DECAYS)
    swept = run(grid=listed, seeds=1)
    assert swept.metric.dims == ("trial", "epoch")
    assert swept.seed.dims == ("trial",)
    assert swept.seed.values.tolist() == seeds
    cells = plain().sel(
        {
            name: xr.DataArray(values, dims="trial")
            for name, values in (
                ("learning_rate", RATES),
                ("weight_decay", DECAYS),
                ("seed", seeds),
            )
        }
    )
    assert_same_bits(swept.metric, cells.transpose("trial", "epoch"))


@pytest.mark.parametrize(
    "seeds", [range(2, 5), [4, 2], np.array([3, 9, 2]), (7,), [2**32 - 1, 0]], ids=str
)
def test_a_seed_gives_the_same_run_whichever_others_are_trained_beside_it(seeds):
    """Each as if it were trained alone; the first of them also as they are counted."""
    one = {"learning_rate": [0.1], "weight_decay": [0.1]}
    swept = run(grid=one, seeds=seeds).metric
    assert swept.seed.values.tolist() == list(seeds)
    counted = run(grid=one, seeds=10).metric
    for seed in seeds:
        alone = counted.sel(seed=[seed]) if seed < 10 else run(grid=one, seeds=[seed]).metric
        assert_same_bits(swept.sel(seed=[seed]), alone)
    assert len(np.unique(swept)) == len(seeds)


def test_the_key_of_a_seed_is_that_of_a_split():
    """Beside many seeds as beside few: the loop above has two of them, and this is the sixth."""
    init, _ = bare_dict()
    key = jax.random.split(jax.random.split(jax.random.key(0), 6)[5], 3)[0]
    swept = run(
        grid={"learning_rate": [0.0]},
        make=optax.sgd,
        seeds=[5],
        metric=lambda params, *_: params["kernel"][0],
    )
    assert swept.metric.item() == init(key)["kernel"][0]


def test_any_hyperparameters_and_metrics_in_any_dtype():
    def metric(params, train, test):
        norm = jnp.linalg.norm(params["kernel"])
        return {"norm": norm, "half": norm.astype(jnp.bfloat16), "positive": norm > 0, "one": 1}

    axes = {"momentum": (0.0, 0.9), "rate": np.array([0.1]), "power": range(3)}
    swept = run(
        lambda power, momentum, rate: optax.sgd(rate * 0.5**power, momentum), axes, metric=metric
    )
    assert swept.norm.shape == (2, 1, 3, 2, 1)
    assert len(np.unique(swept.norm)) == 12
    assert {name: str(array.dtype) for name, array in swept.items()} == {
        "norm": "float32",
        "half": "float32",
        "positive": "bool",
        "one": "int32",
    }
    np.testing.assert_allclose(swept.half, swept.norm, rtol=2**-8)


def test_blocks_are_only_a_matter_of_memory():
    reports = []
    swept = run(memory=1, progress=lambda *report: reports.append(report))
    np.testing.assert_allclose(swept.metric, plain(), rtol=1e-5)
    assert swept.attrs["block"] == [1, 1, 1]
    assert reports == [(n, 12) for n in range(13)]


def without_key(params, x, y, key):
    return jnp.mean((x @ params["kernel"] - y) ** 2)


def test_the_number_of_cells_does_not_change_what_is_traced():
    traces = []

    def make(learning_rate, weight_decay):
        traces.append(None)
        return optax.sgd(learning_rate)

    run(make, loss=without_key)
    few = len(traces)
    run(make, GRID | {"weight_decay": np.linspace(0, 1, 40)}, loss=without_key)
    assert len(traces) == 2 * few


def test_a_cell_that_diverges_harms_no_other():
    def error(rates):
        return run(optax.sgd, {"learning_rate": rates}, seeds=1, loss=without_key).metric

    swept = error([0.1, 1e38])
    assert np.isnan(swept.sel(learning_rate=1e38)).all()
    np.testing.assert_array_equal(swept[0], error([0.1, 0.2])[0])


def test_the_callers_arrays_may_be_of_any_kind():
    swept = run(train=[X.tolist() @ np.eye(3), jnp.asarray(Y)], test=(X.astype(float) + 1, Y))
    np.testing.assert_allclose(swept.metric, plain(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"grid": GRID | {"weight_decay": []}}, ValueError, "weight_decay must be a non-empty"),
        ({"grid": GRID | {"weight_decay": 0.1}}, ValueError, "weight_decay must be a non-empty"),
        ({"grid": GRID | {"weight_decay": ["a"]}}, ValueError, "weight_decay must be a non-empty"),
        (
            {"grid": GRID | {"learning_rate": [np.nan]}},
            ValueError,
            "learning_rate must be .* finit",
        ),
        ({"grid": {"seed": [1.0]}}, ValueError, "'seed' cannot name .* rename it"),
        ({"seeds": 0}, ValueError, "seeds must be a whole number >= 1, got 0"),
        ({"epochs": 1.5}, ValueError, "epochs must be a whole number >= 1, got 1.5"),
        ({"epochs": "3"}, ValueError, "epochs must be a whole number"),
        (
            {"evaluate_every": 2},
            ValueError,
            "evaluate_every=2 does not divide epochs=3; pass a div",
        ),
        ({"batch_size": 13}, ValueError, "batch_size=13 is larger than the 12 training examples"),
        ({"memory": 0}, ValueError, "memory must be a number of bytes > 0, got 0"),
        ({"train": X}, ValueError, "train must be a tuple of arrays, got ndarray"),
        ({"train": ()}, ValueError, "train must hold arrays of one length"),
        ({"train": (X, 1.0)}, ValueError, "train must hold arrays of one length"),
        ({"train": (X, Y[:5])}, ValueError, r"one length, got \[\(12, 3\), \(5,\)\]"),
        ({"train": (X * np.nan, Y)}, ValueError, "train/0 holds NaN or infinity; remove"),
        ({"test": {"y": Y * np.inf}}, ValueError, "test/y holds NaN or infinity; remove"),
        ({"test": {"y": "abc"}}, TypeError, "test/y must be an array of numbers, got 'abc'"),
        ({"metric": lambda w, *_: w["kernel"]}, ValueError, r"scalars, got metric \(3,\); reduce"),
        ({"metric": lambda *_: {"a": X}}, ValueError, r"scalars, got a \(12, 3\); reduce it"),
        ({"metric": lambda *_: {"epoch": 1.0}}, ValueError, "'epoch' cannot name"),
        ({"metric": lambda *_: {"weight_decay": 1.0}}, ValueError, "'weight_decay' cannot name"),
        ({"metric": lambda *_: {"a/b": 1.0}}, ValueError, "'a/b' cannot name"),
    ],
)
def test_bad_input_is_met_before_training(options, error, words):
    reports = []
    with pytest.raises(error, match=words):
        run(**options, progress=lambda *report: reports.append(report))
    assert not reports


def test_numbers_and_lists_of_any_kind_are_the_same_sweep(tmp_path):
    """NumPy's integers once ended in an error of JSON; in the store they are those of Python."""
    path = tmp_path / "store"
    first = run(store=path)
    lists = {"train": (X.tolist(), Y.tolist()), "batch_size": np.int64(5), "seeds": np.uint8(2)}
    again = run(epochs=np.int32(3), store=path, memory=np.float32(2**30), **lists)
    xr.testing.assert_identical(first, again)


def test_whole_numbers_that_fit_are_taken_and_others_only_with_x64():
    def metric(params, train, test):
        return train[1].max()

    small = (X, np.arange(12) + 2**30)
    options = {"loss": lambda params, x, y, key: without_key(params, x, 0, key), "metric": metric}
    assert (run(train=small, **options).metric == 2**30 + 11).all()
    large = (X, np.arange(12) + 2**40)
    with pytest.raises(ValueError, match="train/1 holds 1099511627776, which int32 cannot hold"):
        run(train=large, **options)
    with jax.enable_x64(True):
        assert (run(train=large, **options).metric == 2**40 + 11).all()


def test_arrays_that_do_not_fit_the_model_are_met_before_training():
    with pytest.raises(TypeError, match="dot_general"):
        run(train=(X[:, :2], Y), progress=lambda *_: pytest.fail("trained"))


def test_several_processes_need_a_store(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="store must be a folder that all processes share"):
        run()
