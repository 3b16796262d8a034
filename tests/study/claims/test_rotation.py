"""Claim (xii): predictions against a simulation in NumPy, verdicts on made-up ratios, and a tiny real run."""

import numpy as np
import optax
import pytest
import xarray as xr

from decoupled_wd import PAPER
from decoupled_wd.study.claims.rotation import B1, Rotation, judge, predict
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, SAME
from decoupled_wd.study.figures.draw import draw
from decoupled_wd.study.tasks.data import from_splits
from decoupled_wd.study.tasks.models import mlp
from decoupled_wd.study.tasks.task import Task

DESIGN = Rotation(
    leaves=("hidden/0/kernel",),
    others=("readout/kernel",),
    learning_rate=0.01,
    decay=0.02,
    looks=(2, 3),
    steps=12,
)


def test_the_prediction_is_that_of_a_simulated_walk():
    """Steps of size lr along a moving average of noise of unit variance, in NumPy."""
    steps, size, peak, decay = 800, 4000, 0.01, 0.01
    rates = optax.cosine_decay_schedule(peak, steps)
    said = predict(rates, PAPER.fraction(decay, rates, peak), steps, start=3.0, size=size)
    rng = np.random.default_rng(0)
    theta = rng.normal(size=size)
    theta *= 3.0 / np.linalg.norm(theta)
    m, norms, angles = np.zeros(size), [], []
    for t in range(steps):
        g = rng.normal(size=size)
        g -= theta * (theta @ g) / (theta @ theta)
        m = B1 * m + (1 - B1) * g
        lr = peak * (1 + np.cos(np.pi * t / steps)) / 2
        new = (1 - decay * lr / peak) * theta - lr * m
        norms.append(np.linalg.norm(theta))
        a, b = theta / np.linalg.norm(theta), new / np.linalg.norm(new)
        angles.append(2 * np.arcsin(np.linalg.norm(a - b) / 2))
        theta = new
    ratios = [
        np.log2(each) - np.log2(says) for each, says in zip((norms, angles), said, strict=True)
    ]
    for ratio in ratios:
        assert np.abs(ratio[100:750]).max() < 0.15
        assert abs(ratio[400:750].mean()) < 0.06


def made_up(norm, rotation):
    """Seeds that differ a little, on the second half alone."""
    shape = (2, 2, 4, 10)
    values = {name: np.ones(shape) for name in ("norm", "rotation")}
    for name, ratio in (("norm", norm), ("rotation", rotation)):
        values[name][0, :, :, 5:] = ratio * (1 + 0.01 * np.arange(4))[None, :, None]
    dims = ("kind", "leaf", "seed", "step")
    labels = {"kind": ["measured", "predicted"], "leaf": ["a", "b"]}
    return xr.Dataset({name: (dims, each) for name, each in values.items()}, labels)


@pytest.mark.parametrize(
    ("ratio", "first", "other"),
    [(1.0, HOLDS, SAME), (0.5, FAILS, HOLDS), (2.0, FAILS, FAILS), (0.95, HOLDS, SAME)],
)
def test_a_leaf_is_judged_by_the_second_half_and_a_read_out_is_to_be_slower(ratio, first, other):
    lines = judge(made_up(ratio, ratio), "toy", ("b",), (4,))
    assert [line.verdict for line in lines] == [first, first, other]
    assert lines[0].estimate.value == pytest.approx(np.log2(ratio), abs=0.03)
    assert [line.sense for line in lines] == ["≈", "≈", "<"]


@pytest.mark.slow
def test_a_tiny_real_run():
    rng = np.random.default_rng(0)
    split = rng.normal(size=(40, 5)), np.arange(40) % 3
    data = from_splits("toy", (5, 1), train=split, validation=split, test=split)
    task = Task("toy, mlp", data, mlp(5, 3, hidden=(8, 8)), 1, 10, 1.0)
    for look, seeds in enumerate(DESIGN.looks):
        finding = DESIGN.measure(None, task, look)
        assert {line.estimate.seeds for line in finding.verdicts} == {seeds}
        assert len(finding.verdicts) == 2 * 3
    runs = DESIGN.train(task, "fixed", 2)
    assert dict(runs.sizes) == {"kind": 2, "leaf": 2, "seed": 2, "step": 12}
    # both start at the norm of the start
    np.testing.assert_allclose(*runs["norm"].isel(step=0).values)
    # Adam's first step goes lr along every coordinate: ⟨θ, θ'⟩ is known from the norms
    hidden = runs.sel(leaf="hidden/0/kernel", kind="measured")
    first, second = (hidden["norm"].isel(step=n).values for n in (0, 1))
    step = np.sqrt((first * 0.02) ** 2 + 0.01**2 * 40)
    law = first**2 + second**2 - 2 * first * second * np.cos(hidden["rotation"].isel(step=0))
    np.testing.assert_allclose(np.sqrt(law), step, rtol=0.1)
    assert len(finding.drawings) == 4
    for drawing in finding.drawings.values():
        assert len(draw(drawing).axes) == 2
