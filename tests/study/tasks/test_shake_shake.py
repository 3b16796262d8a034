"""Shake-Shake: its size, its draws, its gradient, its augmentation, and one step of training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import decoupled_wd as dwd
from decoupled_wd.study.tasks.shake_shake import (
    ShakeBlock,
    Shortcut,
    augment,
    shake,
    shake_shake,
)

KEY = jax.random.key(0)
# compiling takes most of the time: nothing here runs often
quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize(("width", "millions"), [(64, "11.65"), (96, "26.19")])
def test_the_networks_are_those_of_the_paper_by_their_number_of_parameters(width, millions):
    shapes = jax.eval_shape(shake_shake(width).init, KEY)
    assert f"{sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6:.2f}" == millions


def test_the_network_has_26_layers():
    shapes = jax.eval_shape(shake_shake(64).init, KEY)
    layers = [leaf.shape for leaf in jax.tree.leaves(shapes) if leaf.ndim > 1]
    assert len([s for s in layers if s[:2] == (3, 3)]) == 1 + 2 * 24  # two branches side by side
    assert len([s for s in layers if s[:2] == (1, 1)]) == 3 * 2
    assert [s for s in layers if len(s) == 2] == [(256, 10)]


def test_the_value_uses_the_forward_and_the_gradient_the_backward_coefficient():
    a, b, upstream = jax.random.normal(KEY, (3, 2, 4))
    alpha, beta = jnp.array([[0.9], [0.2]]), jnp.array([[0.3], [0.6]])
    value, pull = jax.vjp(shake, a, b, alpha, beta)
    np.testing.assert_allclose(value, alpha * a + (1 - alpha) * b, rtol=1e-5, atol=1e-6)
    to_a, to_b, to_alpha, _ = pull(upstream)
    np.testing.assert_allclose(to_a, beta * upstream, rtol=1e-6)
    np.testing.assert_allclose(to_b, (1 - beta) * upstream, rtol=1e-6)
    np.testing.assert_array_equal(to_alpha, 0)


def draws(block, x):
    """α and β of every image, read off a block whose branches put out ones and zeros."""
    one, zero = jnp.ones(()), jnp.zeros(())
    graphdef, rest = nnx.split(block)

    def run(a, b):
        copy = nnx.merge(graphdef, rest, copy=True)
        copy.branches = nnx.List([lambda x: jnp.full_like(x, a), lambda x: jnp.full_like(x, b)])
        return copy(x)[:, 0, 0, 0] - x[:, 0, 0, 0]

    return run(one, zero), jax.jacrev(run)(one, zero)


def test_every_image_has_coefficients_of_its_own_and_a_half_in_evaluation():
    block, x = ShakeBlock(2, 2, 1, nnx.Rngs(0)), jax.random.normal(KEY, (500, 2, 2, 2))
    alpha, beta = draws(block, x)
    for uniform in (alpha, beta):
        quartiles = np.quantile(uniform, [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quartiles, [0.25, 0.5, 0.75], atol=0.08)
    assert abs(np.corrcoef(alpha, beta)[0, 1]) < 0.15
    block.eval()
    alpha, beta = draws(block, x)
    np.testing.assert_allclose(alpha, 0.5, atol=1e-6)
    np.testing.assert_allclose(beta, 0.5, atol=1e-6)


def test_the_shortcut_sees_every_second_pixel_and_its_diagonal_neighbours():
    shortcut = Shortcut(1, 2, 2, nnx.Rngs(0))
    shortcut.norm = nnx.Sequential()
    for conv in shortcut.convs:
        conv.kernel[...] = jnp.ones((1, 1, 1, 1))
    x = np.arange(1.0, 17).reshape(1, 4, 4, 1).astype(np.float32)
    paths = np.asarray(shortcut(jnp.asarray(x)))[0]
    np.testing.assert_array_equal(paths[..., 0], [[1, 3], [9, 11]])
    np.testing.assert_array_equal(paths[..., 1], [[0, 0], [0, 6]])


def test_augmentation_shifts_by_up_to_four_pixels_and_flips_half_of_the_images():
    image = np.random.default_rng(0).normal(size=(32, 32, 3)).astype(np.float32)
    crops = augment(KEY, jnp.tile(image.reshape(1, -1), (400, 1))).reshape(-1, 32, 32, 3)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    windows = {
        window.tobytes(): (down, right, flipped)
        for down in range(9)
        for right in range(9)
        for flipped, window in enumerate(
            (
                padded[down : down + 32, right : right + 32],
                padded[down : down + 32, right : right + 32][:, ::-1],
            )
        )
    }
    found = np.array([windows[np.asarray(crop).tobytes()] for crop in crops])
    assert set(found[:, 0]) == set(found[:, 1]) == set(range(9))
    assert 0.4 < found[:, 2].mean() < 0.6


@pytest.mark.parametrize("classes", [2, 3, 26])
def test_it_has_as_many_logits_as_there_are_classes(classes):
    shapes = jax.eval_shape(shake_shake(64, classes).init, KEY)
    assert [leaf.shape for leaf in jax.tree.leaves(shapes) if leaf.ndim == 2] == [(256, classes)]


@pytest.mark.slow
def test_one_step_of_the_papers_network_with_adamw():
    """Thin and short: the first block has no shortcut, and the others have one with a stride."""
    model, optimizer = shake_shake(16, blocks=1), dwd.adamw(1e-3, 1e-4)
    x, y = jax.random.normal(jax.random.key(1), (2, 3072)), jnp.array([1, 2])

    @quick
    def step(params):
        loss, gradients = jax.value_and_grad(model.loss)(params, x, y, KEY)
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return loss, optax.apply_updates(params, updates)

    before = quick(model.init)(KEY)
    loss, after = step(before)
    assert 1 < float(loss) < 10
    for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        # Adam's first step is α in every coordinate that has a gradient, and decay takes 1e-4 of the weight
        moved = np.abs(np.asarray(new - (1 - 1e-4) * old))
        np.testing.assert_allclose(np.median(moved), 1e-3, rtol=0.05)


@pytest.fixture(scope="module")
def tiny():
    model = shake_shake(4, blocks=1)
    x = jax.random.normal(jax.random.key(1), (6, 3072))
    return model, quick(model.init)(KEY), x, jnp.arange(6) % 10


@pytest.mark.slow
def test_a_step_of_training_lowers_the_loss_it_was_taken_of(tiny):
    model, params, x, y = tiny
    step = quick(jax.value_and_grad(model.loss))
    before, gradients = step(params, x, y, KEY)
    norm = float(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients)))
    after, _ = step(jax.tree.map(lambda p, g: p - 0.05 / norm * g, params, gradients), x, y, KEY)
    assert 0 < norm < np.inf
    assert float(after) < float(before)
    other, _ = step(params, x, y, jax.random.key(9))
    assert float(other) != float(before)


def test_evaluation_draws_nothing_and_depends_on_the_training_set_through_its_statistics(tiny):
    model, params, x, y = tiny
    evaluate = quick(model.evaluate)
    first, again = (evaluate(params, (x, y), {"test": (x, y)}) for _ in range(2))
    assert first == again
    assert float(evaluate(params, (2 * x + 1, y), {"test": (x, y)})["train_loss"]) != pytest.approx(
        float(first["train_loss"])
    )
    assert sorted(first) == ["test_error", "train_loss"]
