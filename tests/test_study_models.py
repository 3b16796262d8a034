"""The network in pure functions: its gradient steps, its BatchNorm statistics and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decoupled_wd.study.models import mlp

MODEL = mlp(5, 3, hidden=(8, 7))
X = jax.random.normal(jax.random.key(1), (20, 5))
Y = jnp.arange(20) % 3


def forward(params, x, statistics):
    """The same network in NumPy, normalised by the statistics of another batch."""
    for index in range(2):
        kernel = np.asarray(params["hidden"][index]["kernel"][...])
        norm = params["norms"][index]
        x, statistics = x @ kernel, statistics @ kernel
        mean, variance = statistics.mean(0), statistics.var(0)
        scale, bias = np.asarray(norm["scale"][...]), np.asarray(norm["bias"][...])
        x, statistics = (
            np.maximum((h - mean) / np.sqrt(variance + 1e-5) * scale + bias, 0)
            for h in (x, statistics)
        )
    readout = params["readout"]
    return x @ np.asarray(readout["kernel"][...]) + np.asarray(readout["bias"][...])


def test_the_loss_is_the_cross_entropy_of_the_network():
    params = MODEL.init(jax.random.key(0))
    logits = forward(params, np.asarray(X), np.asarray(X))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert float(MODEL.loss(params, X, Y)) == pytest.approx(
        -log_p[np.arange(20), Y].mean(), rel=1e-4
    )


def test_the_error_uses_the_statistics_of_the_whole_training_set():
    params = MODEL.init(jax.random.key(0))
    test = X[:6] * 3 + 1
    logits = forward(params, np.asarray(test), np.asarray(X))
    expected = 100 * np.mean(logits.argmax(1) != np.asarray(Y[:6]))
    assert float(MODEL.error(params, (X, Y), (test, Y[:6]))) == pytest.approx(expected)


def test_a_broken_network_has_no_error():
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, MODEL.init(jax.random.key(0)))
    assert jnp.isnan(MODEL.error(params, (X, Y), (X, Y)))


def test_seeds_start_apart():
    a, b = (MODEL.init(jax.random.key(seed)) for seed in (0, 1))
    assert not jnp.allclose(a["readout"]["kernel"][...], b["readout"]["kernel"][...])
