"""Claims (xi) and (xiii): each variant against its formula, verdicts on made-up searches, and tiny real runs."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import luck, made_up, recorded, tiny_task

from decoupled_wd.study.claims.comparison import Variants
from decoupled_wd.study.claims.precision import ROUNDINGS, Precision, Rounded, held
from decoupled_wd.study.claims.variants import VARIANTS, Varied, with_norms
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, SAME
from decoupled_wd.study.figures.draw import draw
from decoupled_wd.study.tasks.data import from_splits
from decoupled_wd.study.tasks.models import mlp
from decoupled_wd.study.tasks.task import Task, runner

PARAMS = {
    "blocks": [
        {"up": {"kernel": jnp.array([[3.0, -4.0], [1.0, 2.0]])}, "norm": {"scale": jnp.ones(2)}}
    ],
    "embed": {"embedding": jnp.array([[2.0, 1.0], [-1.0, 3.0]])},
    "head": {"kernel": jnp.array([[1.0, -2.0], [2.0, 1.0]])},
}
STEPS, ALPHA, LAMBDA = 4, 0.01, 0.04
WHICH = {
    "AdamW": (1, 1, 1, 1),
    "AdamC": (1, 1, 1, 1),
    "matrices": (1, 0, 1, 1),
    "no embeddings": (1, 0, 0, 1),
}
SETTINGS = Precision({"tuned": (0.01, 0.02), "small": (1e-3, 1e-3)}, looks=(2, 4))
DESIGN = Variants(("cautious", "AdamC", "hyperball"), trials=4, looks=(4, 8))


def paths(name):
    """The weights of every leaf after each step, under gradients of one, as a float32 run has them."""
    optimizer = Varied(name, STEPS)(learning_rate=ALPHA, weight_decay=LAMBDA)
    params, state, found = PARAMS, optimizer.init(PARAMS), []
    for _ in range(STEPS - 1):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
        found.append([np.asarray(leaf) for leaf in jax.tree.leaves(params)])
    return found


@pytest.mark.parametrize("name", WHICH)
def test_which_weights_decay_and_how_much(name):
    """With gradients of one, Adam steps lr along every coordinate: the rest is decay."""
    order = [1, 0, 2, 3]  # the leaves come as scale, kernel of blocks, embedding, head
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(PARAMS)]
    shapes = [leaf.shape for leaf in leaves]
    assert shapes[order[0]] == (2,) or shapes[0] == (2,)
    for t, step in enumerate(paths(name)):
        eta = (1 + math.cos(math.pi * t / STEPS)) / 2
        for number, leaf in enumerate(leaves):
            is_scale, is_block = leaf.ndim == 1, number in (0, 1)
            decays = WHICH[name][(1 if is_scale else 0) if is_block else number]
            power = 2 if name == "AdamC" and is_block and not is_scale else 1
            leaves[number] = leaf - ALPHA * eta - decays * LAMBDA * eta**power * leaf
            np.testing.assert_allclose(step[number], leaves[number], rtol=1e-5)


def test_cautious_decays_where_the_step_shrinks_and_the_sphere_holds_norms():
    plain, cautious, ball = (paths(name)[0] for name in ("AdamW", "cautious", "hyperball"))
    for start, with_all, with_some, turned in zip(
        jax.tree.leaves(PARAMS), plain, cautious, ball, strict=True
    ):
        # gradients of one make every weight smaller: where it is positive it shrinks
        step = np.asarray(start) - ALPHA
        np.testing.assert_allclose(with_some, np.where(start > 0, with_all, step), rtol=1e-6)
        if start.ndim == 2:
            np.testing.assert_allclose(np.linalg.norm(turned), np.linalg.norm(start), rtol=1e-5)


def pretend(gains, norms=0.0):
    """Searches whose best validation and test error are `gains` below AdamW's."""

    def errors(training, point):
        name = training.make_optimizer.name
        away = np.abs(np.log(point["learning_rate"] / 0.01))
        error = 40 - gains.get(name, 0.0) + away + 0.05 * luck(point["seed"], len(name))
        norm = np.exp2(norms * (name == "AdamC")) * np.ones_like(error)
        numbers = {"weight_norm": norm, "gradient_norm": 1 / norm}
        return {"validation_error": 40 + away, "test_error": error, "train_loss": error} | numbers

    return made_up(errors)


def test_each_variant_is_compared_with_adamw_and_adamc_by_its_norms_too():
    gains = {"cautious": 3.0, "AdamC": -3.0}
    task = tiny_task()._replace(matters=1.5)
    run, trainings = recorded(pretend(gains, norms=1.0))
    finding = DESIGN.measure(run, task, 0)
    verdicts = {line.statement: line.verdict for line in finding.verdicts}
    assert verdicts["Tuned: Cautious decay has a lower test error than AdamW"] == HOLDS
    assert verdicts["Tuned: AdamC has a lower test error than AdamW"] == FAILS
    assert verdicts["AdamC's normalised layers end larger than AdamW's"] == HOLDS
    assert verdicts["AdamW's gradients end larger than AdamC's"] == HOLDS
    values = [line.estimate.value for line in finding.verdicts[-2:]]
    assert values == pytest.approx([1.0, 1.0])
    # every variant has as many trials, and its choices as many judges
    sizes = {}
    for training in trainings:
        if training.experiment[-1] == "variants":
            name = training.make_optimizer.name
            sizes.setdefault(name, []).append(len(training.space["seed"]))
    assert set(map(tuple, sizes.values())) == {(16, 8)}
    draw(*finding.drawings.values())


def test_masks_are_as_good_if_they_differ_by_less_than_matters():
    design = replace(DESIGN, names=("matrices",))
    for gain, verdict in ((0.0, HOLDS), (2.0, FAILS)):
        (line,) = design.measure(pretend({"matrices": gain}), tiny_task(), 0).verdicts
        assert (line.sense, line.verdict) == ("≈", verdict)


def test_bfloat16_is_judged_beside_float32_at_every_setting():
    worse = {"to nearest": (0.1, 3.0, 1.0), "24 bits": (0.05, 0.0, 0.0)}

    def errors(training, point):
        loss, error, norm = worse.get(training.make_optimizer.rounding, (0.0, 0.0, 0.0))
        noise = 1e-3 * luck(point["seed"])
        return {
            "train_loss": 1 + loss + noise,
            "test_error": 40 + error + noise,
            "validation_error": 40 + noise,
            "weight_norm": np.exp2(norm + noise),
        }

    finding = SETTINGS.measure(made_up(errors), tiny_task(), 0)
    wanted = [HOLDS, HOLDS, HOLDS, HOLDS, FAILS, HOLDS]
    assert [line.verdict for line in finding.verdicts] == wanted * 2
    assert finding.verdicts[0].where == "tiny, tuned: α = 0.01, λ = 0.02"
    finding = SETTINGS.measure(made_up(lambda t, p: errors(replace_rounding(t), p)), tiny_task(), 0)
    assert [line.verdict for line in finding.verdicts[:3]] == [SAME] * 3
    draw(*finding.drawings.values())


def replace_rounding(training):
    return replace(training, make_optimizer=Rounded("float32", 4))


@pytest.mark.slow
def test_weights_are_held_in_bfloat16_and_computed_in_float32():
    model = mlp(3, 2, hidden=(4,))
    narrow, wide = held(model, is_narrow=True), held(model, is_narrow=False)
    params = narrow.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    x, y = jax.random.normal(jax.random.key(1), (8, 3)), jnp.arange(8) % 2
    widened = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    losses = [m.loss(p, x, y, jax.random.key(2)) for m, p in ((narrow, params), (wide, widened))]
    assert losses[0].dtype == jnp.float32
    assert float(losses[0]) == float(losses[1])
    splits = {"validation": (x, y), "test": (x, y)}
    found = [m.evaluate(p, (x, y), splits) for m, p in ((narrow, params), (wide, widened))]
    numbers = [jax.tree.map(float, each) for each in found]
    assert numbers[0] == pytest.approx(numbers[1])
    kernel = np.asarray(widened["hidden"][0]["kernel"][...])
    assert float(found[0]["weight_norm"]) == pytest.approx(np.linalg.norm(kernel), rel=1e-6)
    # a model asked for again is the same, and so is its training
    assert held(model, is_narrow=True) is narrow
    assert with_norms(model) is wide


@pytest.mark.slow
def test_tiny_real_runs():
    rng = np.random.default_rng(0)
    split = rng.normal(size=(40, 5)), np.arange(40) % 3
    data = from_splits("toy", (5, 1), train=split, validation=split, test=split)
    task = Task("toy, mlp", data, mlp(5, 3, hidden=(8, 8)), 2, 10, 1.0)
    names = tuple(name for name in VARIANTS if name != "AdamW")
    run = runner()
    for design in (Variants(names, trials=2, looks=(2, 3)), replace(SETTINGS, looks=(2, 3))):
        finding = design.measure(run, task, 0)
        assert all(np.isfinite(line.estimate.value) for line in finding.verdicts)
    assert set(ROUNDINGS) == set(SETTINGS.train(run, task, 0))
