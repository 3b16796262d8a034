"""The network in pure functions: its gradient steps, its BatchNorm statistics and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from decoupled_wd.study.tasks.data import from_splits, validated
from decoupled_wd.study.tasks.models import NETWORKS, convolve_patches, from_module, mlp, resnet

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


def cross_entropy(logits, y):
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -log_p[np.arange(len(y)), y].mean()


def test_the_loss_is_the_cross_entropy_of_the_network():
    params = MODEL.init(jax.random.key(0))
    expected = cross_entropy(forward(params, np.asarray(X), np.asarray(X)), Y)
    for key in map(jax.random.key, (0, 1)):
        assert float(MODEL.loss(params, X, Y, key)) == pytest.approx(expected, rel=1e-4)


def test_evaluation_uses_the_statistics_of_the_whole_training_set():
    params = MODEL.init(jax.random.key(0))
    test, train = X[:6] * 3 + 1, np.asarray(X)
    held_out = {"validation": (X[6:13], Y[6:13]), "test": (test, Y[:6])}
    found = MODEL.evaluate(params, (X, Y), held_out)
    assert sorted(found) == ["test_error", "train_loss", "validation_error"]
    loss = cross_entropy(forward(params, train, train), Y)
    assert float(found["train_loss"]) == pytest.approx(loss, rel=1e-4)
    for name, (x, y) in held_out.items():
        logits = forward(params, np.asarray(x), train)
        expected = 100 * np.mean(logits.argmax(1) != np.asarray(y))
        assert float(found[f"{name}_error"]) == pytest.approx(expected)


def test_evaluation_in_batches_averages_their_statistics():
    def build(rngs):
        return nnx.Sequential(
            nnx.BatchNorm(5, momentum=0.0, use_scale=False, use_bias=False, rngs=rngs),
            nnx.Linear(5, 3, rngs=rngs),
        )

    model = from_module(build, batch_size=8)
    params = model.init(jax.random.key(0))
    batches = np.asarray(X[:16]).reshape(2, 8, 5)  # the incomplete third is left out
    mean, variance = batches.mean(1).mean(0), batches.var(1).mean(0)
    readout = params["layers"][1]
    logits = (np.asarray(X) - mean) / np.sqrt(variance + 1e-5) @ readout["kernel"][...]
    loss = model.evaluate(params, (X, Y), {})["train_loss"]
    assert float(loss) == pytest.approx(cross_entropy(np.asarray(logits), Y), rel=1e-4)


def test_what_is_random_follows_the_key_and_is_off_in_evaluation():
    def build(rngs):
        return nnx.Sequential(nnx.Dropout(0.5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs))

    model = from_module(build, augment=lambda key, x: x + 0 * jax.random.normal(key, x.shape))
    params = model.init(jax.random.key(0))
    a, b, again = (float(model.loss(params, X, Y, jax.random.key(k))) for k in (0, 1, 0))
    assert a == again != b
    logits = X @ params["layers"][1]["kernel"][...]
    loss = model.evaluate(params, (X, Y), {})["train_loss"]
    assert float(loss) == pytest.approx(cross_entropy(np.asarray(logits), Y), rel=1e-4)


def test_the_batch_is_augmented_in_training_alone():
    build = lambda rngs: nnx.Linear(5, 3, rngs=rngs)  # noqa: E731
    plain, shifted = from_module(build), from_module(build, augment=lambda key, x: x + 1)
    params, key = plain.init(jax.random.key(0)), jax.random.key(1)
    assert float(shifted.loss(params, X, Y, key)) == float(plain.loss(params, X + 1, Y, key))
    assert shifted.evaluate(params, (X, Y), {}) == plain.evaluate(params, (X, Y), {})


def test_a_broken_network_has_no_error():
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, MODEL.init(jax.random.key(0)))
    found = MODEL.evaluate(params, (X, Y), {"validation": (X, Y), "test": (X, Y)})
    assert all(jnp.isnan(value) for value in found.values())


def test_seeds_start_apart():
    a, b = (MODEL.init(jax.random.key(seed)) for seed in (0, 1))
    assert not jnp.allclose(a["readout"]["kernel"][...], b["readout"]["kernel"][...])


def test_without_normalisation_the_mlp_has_biases_instead():
    model = mlp(5, 3, hidden=(8, 7), normalize=False)
    params = model.init(jax.random.key(0))
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(params))
    assert shapes == sorted([(5, 8), (8,), (8, 7), (7,), (7, 3), (3,)])
    x = np.asarray(X)
    for layer in (params["hidden"][0], params["hidden"][1]):
        x = np.maximum(x @ np.asarray(layer["kernel"][...]) + np.asarray(layer["bias"][...]), 0)
    logits = x @ np.asarray(params["readout"]["kernel"][...])
    loss = float(model.loss(params, X, Y, jax.random.key(0)))
    assert loss == pytest.approx(cross_entropy(logits, Y), rel=1e-4)


@pytest.mark.parametrize(
    ("spatial", "window", "stride"),
    [((40,), 3, 1), ((40,), 5, 2), ((7,), 1, 2), ((8, 8), 3, 2), ((5, 6), 3, 1)],
)
def test_patches_are_the_convolution_of_xla_and_so_is_their_gradient(spatial, window, stride):
    ndim = len(spatial)
    x = jax.random.normal(jax.random.key(0), (4, *spatial, 3))
    kernel = jax.random.normal(jax.random.key(1), (*[window] * ndim, 3, 6))
    layout = ("NHC", "HIO", "NHC") if ndim == 1 else ("NHWC", "HWIO", "NHWC")

    def ours(x, kernel):
        return convolve_patches(x, kernel, (stride,) * ndim, "SAME")

    def xla(x, kernel):
        strides = (stride,) * ndim
        return jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=layout)

    np.testing.assert_allclose(ours(x, kernel), xla(x, kernel), atol=1e-4)
    gradients = (
        jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), (0, 1))(x, kernel) for f in (ours, xla)
    )
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("normalize", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("shape", [(40, 1), (8, 8, 1)])
def test_the_resnet_learns_with_every_parameter(shape, normalize):
    model = resnet(shape, 4, channels=(4, 6), normalize=normalize)
    x = jax.random.normal(jax.random.key(1), (20, int(np.prod(shape))))
    y, params = jnp.arange(20) % 4, model.init(jax.random.key(0))
    quick = {"xla_backend_optimization_level": 0}
    gradient = jax.jit(jax.value_and_grad(model.loss), compiler_options=quick)
    before, _ = gradient(params, x, y, jax.random.key(0))
    for _ in range(30):
        loss, slope = gradient(params, x, y, jax.random.key(0))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, slope)
    assert float(loss) < 0.95 * float(before)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize("classes", [2, 3, 26])
@pytest.mark.parametrize("shape", [(40, 1), (8, 8, 1)])
def test_every_network_fits_every_data_set(shape, classes):
    split = np.zeros((classes, *shape)), np.arange(classes)
    data = validated(from_splits("toy", shape, train=split, validation=split, test=split))
    assert data.num_classes == classes
    x, y = data.x_train, data.y_train
    for network in NETWORKS.values():
        model = network(data)
        params = jax.eval_shape(model.init, jax.random.key(0))
        assert params["readout"]["kernel"].shape[-1] == classes
        held_out = {"validation": (x, y), "test": (x, y)}
        found = jax.eval_shape(model.evaluate, params, (x, y), held_out)
        assert sorted(found) == ["test_error", "train_loss", "validation_error"]
        assert all(leaf.shape == () for leaf in found.values())


@pytest.mark.parametrize("classes", [2, 3, 26])
def test_a_network_that_knows_nothing_errs_as_a_guess_does(classes):
    model, x, y = mlp(5, classes, hidden=(4,)), np.zeros((classes, 5)), np.arange(classes)
    params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0)))
    found = model.evaluate(params, (x, y), {"test": (x, y)})
    assert float(found["train_loss"]) == pytest.approx(np.log(classes), rel=1e-6)
    assert float(found["test_error"]) == pytest.approx(100 * (1 - 1 / classes))
