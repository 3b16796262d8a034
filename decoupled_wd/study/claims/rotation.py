"""Claim (xii): norm and rotation of a weight settle where theory says, under any schedule."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from decoupled_wd import PAPER, adamw, theory
from decoupled_wd._base.paths import named_leaves
from decoupled_wd._base.types import PyTree, Schedule
from decoupled_wd.study.claims.drawings import Drawing, Lines
from decoupled_wd.study.claims.optimizers import SCHEDULES
from decoupled_wd.study.claims.verdicts import OCTAVE, Finding, Verdict, level
from decoupled_wd.study.grid.cells import Carry, advance, begin, starts_of
from decoupled_wd.study.statistics import mean
from decoupled_wd.study.tasks.task import Run, Task

B1 = 0.9
QUANTITIES = ("norm", "rotation")


@dataclass(frozen=True)
class Rotation:
    """Measures how far AdamW's norms and rotations are from those of a random walk.

    It is the log2 of measured over predicted, averaged over the second half of a run, leaf by leaf.
    The prediction is made for a weight in front of a normalisation, whose gradient is orthogonal to
    it; it starts where the weight does, and follows lr_t and c_t.

    Source: Kosson et al., arXiv 2305.17212, section 3 and table 1.
    """

    leaves: tuple[str, ...]
    """Paths of weights in front of a normalisation."""
    others: tuple[str, ...]
    """Paths of weights that are not, as the read-out, whose norm the loss depends on."""
    learning_rate: float
    decay: float
    """λ in the paper's unit, the fraction removed at the peak."""
    looks: tuple[int, ...]
    steps: int = 640
    schedules: tuple[str, ...] = ("fixed", "cosine")

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains, judges every leaf, and describes norms and rotations."""
        # weights that are looked at in every step are no sweep, and take seconds
        del run
        found = {each: self.train(task, each, self.looks[look]) for each in self.schedules}
        verdicts = [
            verdict
            for schedule, runs in found.items()
            for verdict in judge(runs, f"{task.name}, {schedule}", self.others, self.looks)
        ]
        drawings = {
            f"{quantity} {task.name}, {each}": draw(runs, quantity)
            for each, runs in found.items()
            for quantity in QUANTITIES
        }
        return Finding(verdicts, drawings)

    def train(self, task: Task, schedule: str, seeds: int) -> xr.Dataset:
        """Trains AdamW; returns `QUANTITIES` over kind, leaf, seed and step."""
        rates = SCHEDULES[schedule](self.learning_rate, self.steps)
        optimizer = adamw(rates, self.decay, b1=B1, peak_learning_rate=self.learning_rate)
        leaves = (*self.leaves, *self.others)
        measured, sizes = _trained(task, optimizer, leaves, self.steps, seeds)
        fraction = PAPER.fraction(self.decay, rates, self.learning_rate)
        # all starts of a leaf have a norm of their own, from which the prediction starts too
        predicted = np.stack(
            [
                predict(rates, fraction, self.steps, start=starts, size=size)
                for starts, size in zip(measured[0, :, :, 0], sizes, strict=True)
            ],
            axis=1,
        )
        dims = ("kind", "leaf", "seed", "step")
        labels = {"kind": ["measured", "predicted"], "leaf": list(leaves)}
        pairs = zip(QUANTITIES, measured, predicted, strict=True)
        return xr.Dataset(
            {name: (dims, np.stack([found, said])) for name, found, said in pairs},
            {**labels, "seed": np.arange(seeds), "step": np.arange(1, self.steps + 1)},
        )


def predict(
    rates: Schedule, fraction: Schedule, steps: int, *, start: ArrayLike, size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicts the norm of AdamW's weight before each step, and the angle of each step.

    Both are ``[..., steps]`` of starts ``[...]``.

    ``angle_t = lr_t·√(C·(1 − β1)/(1 + β1)) / r_t``, with r_t from `theory.norms`; where both rest
    it is `theory.rotation`.

    Examples:
      >>> r = theory.adamw_norm(1e-3, learning_rate=0.01, size=100)
      >>> norms, angles = predict(lambda _: 0.01, lambda _: 1e-3, 3, start=r, size=100)
      >>> bool(np.allclose(norms, r, rtol=1e-5))
      True
      >>> bool(np.allclose(angles, theory.rotation(1e-3, B1), rtol=1e-5))
      True

    Source: Kosson et al., arXiv 2305.17212, section 3.
    """
    # what a step of lr = 1 adds in the long run, and what one step alone has of it
    # with c = ½ the norm at rest, lr·√(C/(2c)), is lr·√C
    step_norm = theory.adamw_norm(0.5, learning_rate=1.0, size=size)
    alone = step_norm * theory.rotation(0.5, B1)
    # r² is linear in the square of the start, so that two walks stand for those of all starts
    kept, added = (
        theory.norms(rates, fraction, steps, start=r, step_norm=s) ** 2
        for r, s in ((1.0, 0.0), (0.0, step_norm))
    )
    first = np.asarray(start, float)[..., None]
    after = np.sqrt(first**2 * kept + added)
    norms = np.concatenate([first, after[..., :-1]], axis=-1)
    return norms, np.asarray(jax.vmap(rates)(jnp.arange(steps)), float) * alone / norms


def _trained(
    task: Task,
    optimizer: optax.GradientTransformation,
    leaves: tuple[str, ...],
    steps: int,
    seeds: int,
) -> tuple[NDArray[np.float64], list[int]]:
    """Returns `QUANTITIES` ``[2, leaf, seed, step]``, and the sizes of the leaves."""
    data = jnp.asarray(task.dataset.x_train), jnp.asarray(task.dataset.y_train)
    rows, batch_size = len(data[0]), task.batch_size
    epochs = math.ceil(steps / (rows // batch_size))
    starts = starts_of(
        task.model.init, np.arange(seeds), rows=rows, epochs=epochs, batch_size=batch_size
    )

    def chosen(params: PyTree) -> list[jax.Array]:
        by_name = dict(named_leaves(params))
        return [by_name[leaf].ravel() for leaf in leaves]

    @jax.jit
    def one(mine: PyTree) -> jax.Array:
        place = jnp.array(0)

        def step(carry: Carry, _: None) -> tuple[Carry, jax.Array]:
            new = advance(optimizer, task.model.loss, place, mine, data, carry, 1)
            pairs = zip(chosen(carry[0]), chosen(new[0]), strict=True)
            return new, jnp.array([(jnp.linalg.norm(a), angle(a, b)) for a, b in pairs])

        return jax.lax.scan(step, begin(optimizer, place, mine), length=steps)[1]

    def trained(seed: int) -> NDArray[np.float64]:
        return np.asarray(one(jax.tree.map(lambda leaf: leaf[seed : seed + 1], starts)), float)

    # a seed at a time, so that a later look compiles nothing
    found = np.stack([trained(seed) for seed in range(seeds)])
    return found.transpose(3, 2, 0, 1), [leaf.size // seeds for leaf in chosen(starts[0])]


def angle(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the angle between two vectors, exact for small ones.

    ``2·arcsin(‖a/‖a‖ − b/‖b‖‖ / 2)``

    Examples:
      >>> round(float(angle(jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-3]))), 6)
      0.001
    """
    a, b = (each / jnp.linalg.norm(each) for each in (a, b))
    # the arccosine of a number near 1 would lose half of the digits
    return 2 * jnp.arcsin(jnp.linalg.norm(a - b) / 2)


def judge(
    runs: xr.Dataset, where: str, others: tuple[str, ...], looks: tuple[int, ...]
) -> list[Verdict]:
    """Judges both quantities of every leaf, from both kinds over leaf, seed and step.

    Of what is not in front of a normalisation only the rotation is judged, and is to be slower.

    Examples:
      >>> runs = xr.DataArray(np.ones((2, 1, 3, 4)), {"kind": ["measured", "predicted"],
      ...     "leaf": ["w"]}, ("kind", "leaf", "seed", "step"))
      >>> found = judge(xr.Dataset({"norm": runs, "rotation": 0.5 * runs}), "toy", (), (3,))
      >>> [(line.estimate.value, line.verdict) for line in found]
      [(0.0, 'holds'), (0.0, 'holds')]
    """
    half = runs.isel(step=slice(runs.sizes["step"] // 2, None))
    quotient = half.sel(kind="measured") / half.sel(kind="predicted")
    ratio = xr.apply_ufunc(np.log2, quotient).mean("step")

    def line(quantity: str, leaf: str) -> Verdict:
        seeds = ratio[quantity].sel(leaf=leaf).values
        found = mean(seeds, level(looks))
        is_other = leaf in others
        says = "is slower than theory says" if is_other else "is what theory says"
        return Verdict(
            f"The {quantity} of {leaf} {says}",
            where,
            f"log2 of {quantity}, measured over predicted",
            found,
            "<" if is_other else "≈",
            0.0,
            OCTAVE,
            len(looks),
        )

    leaves = [str(leaf) for leaf in runs["leaf"].values]
    return [
        line(quantity, leaf)
        for quantity in QUANTITIES
        for leaf in leaves
        if quantity == "rotation" or leaf not in others
    ]


def draw(runs: xr.Dataset, quantity: str) -> Drawing:
    """Describes a quantity of each leaf over the steps, beside what was predicted."""
    # single angles are noisy, and the eye wants their trend
    steps = max(1, runs.sizes["step"] // 16)
    smooth: xr.DataArray = runs[quantity].rolling(step=steps).mean()
    panels = {
        str(leaf): {
            str(kind): smooth.sel(leaf=leaf, kind=kind, drop=True) for kind in smooth["kind"].values
        }
        for leaf in runs["leaf"].values
    }
    ylabel = {"norm": "L2 norm", "rotation": "rotation a step (radians)"}[quantity]
    return Lines(panels, x="step", xlabel="steps", ylabel=ylabel, log="y")
