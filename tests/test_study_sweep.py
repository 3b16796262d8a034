"""The compiled grid against a plain Python loop, and its cells against each other."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

import decoupled_wd as dwd
from decoupled_wd.study import sweep
from decoupled_wd.study.models import mlp

GRID = {"learning_rate": [0.01, 0.1, 1.0], "weight_decay": [0.0, 0.1]}
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)).astype(np.float32), RNG.normal(size=12).astype(np.float32)


def init(key):
    return jax.random.normal(key, (3,))


def loss(w, x, y):
    return jnp.mean((x @ w - y) ** 2)


def metric(w, train, test):
    return jnp.concatenate([w, jnp.mean(test[0] @ w - test[1])[None]])[0]


def run(
    make=lambda learning_rate, weight_decay: dwd.adamw(learning_rate, weight_decay),
    grid=GRID,
    **options,
):
    settings = {"epochs": 3, "batch_size": 5, "seeds": 2, "metric": metric} | options
    return sweep(make, grid, init=init, loss=loss, train=(X, Y), test=(X, Y), **settings)


def test_the_grid_is_a_python_loop_over_its_cells():
    swept = run()
    for seed, key in enumerate(jax.random.split(jax.random.key(0), 2)):
        init_key, order_key = jax.random.split(key)
        for lr in GRID["learning_rate"]:
            for wd in GRID["weight_decay"]:
                optimizer, w = dwd.adamw(lr, wd), init(init_key)
                state = optimizer.init(w)
                for epoch_key in jax.random.split(order_key, 3):
                    order = jax.random.permutation(epoch_key, 12)
                    for rows in (order[:5], order[5:10]):
                        updates, state = optimizer.update(
                            jax.grad(loss)(w, X[rows], Y[rows]), state, w
                        )
                        w = optax.apply_updates(w, updates)
                cell = swept.sel(learning_rate=lr, weight_decay=wd, seed=seed)
                assert float(cell) == pytest.approx(float(w[0]), rel=1e-4, abs=1e-5)


def test_axes_are_named_and_hold_their_values():
    swept = run()
    assert isinstance(swept, xr.DataArray)
    assert dict(swept.sizes) == {"learning_rate": 3, "weight_decay": 2, "seed": 2}
    assert list(swept["learning_rate"].values) == GRID["learning_rate"]


def test_any_hyperparameters():
    swept = run(
        lambda momentum: dwd.sgdw(0.01, 0.01, momentum=momentum), {"momentum": [0.0, 0.5, 0.9]}
    )
    assert dict(swept.sizes) == {"momentum": 3, "seed": 2}
    assert len(np.unique(swept.values)) == 6


@pytest.mark.parametrize("cells_per_chunk", [1, 5, 100])
def test_chunks_are_only_a_matter_of_memory(cells_per_chunk):
    done = []
    swept = run(cells_per_chunk=cells_per_chunk, progress=done.append)
    np.testing.assert_allclose(swept, run(), rtol=1e-5)
    assert sum(done) == 12
    assert len(done) == -(-12 // min(cells_per_chunk, 12))


def test_one_program_for_the_whole_grid():
    traces = []

    def make(learning_rate, weight_decay):
        traces.append(None)
        return dwd.adamw(learning_rate, weight_decay)

    run(make, cells_per_chunk=2)
    assert len(traces) == 1


def test_a_cell_that_diverges_is_nan_and_harms_no_other():
    model = mlp(3, 2)
    grid = {"learning_rate": [0.1, 1e38], "weight_decay": [0.0, 0.1]}
    options = {"init": model.init, "loss": model.loss, "metric": model.error, "epochs": 4}
    data = (X, (Y > 0).astype(np.int32))

    def make(learning_rate, weight_decay):
        return dwd.sgdw(learning_rate, weight_decay)

    def error(rates):
        axes = grid | {"learning_rate": rates}
        return sweep(make, axes, train=data, test=data, batch_size=4, seeds=1, **options)

    swept = error([0.1, 1e38])
    assert np.isnan(swept.sel(learning_rate=1e38)).all()
    np.testing.assert_array_equal(
        swept.sel(learning_rate=0.1), error([0.1, 0.2]).sel(learning_rate=0.1)
    )


def test_eight_devices_give_the_numbers_of_one(tmp_path):
    program = (
        "import jax, numpy as np; from test_study_sweep import run; import sys;"
        "np.save(sys.argv[1], run(cells_per_chunk=8).values); print(jax.device_count())"
    )
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    path = str(tmp_path / "eight.npy")
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "8", done.stderr
    np.testing.assert_allclose(np.load(path), run().values, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grid": GRID | {"weight_decay": []}}, "weight_decay must be a non-empty list"),
        ({"grid": GRID | {"learning_rate": [0.1, np.nan]}}, "learning_rate must be .* finite"),
        ({"seeds": 0}, "seeds must be a whole number >= 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"batch_size": 13}, "batch_size=13 is larger than the 12 training examples"),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(ValueError, match=words):
        run(**options)
