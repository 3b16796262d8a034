"""Claim (xiii): weights in bfloat16 lose their decay if they are rounded to nearest."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import decoupled_wd as dwd
from decoupled_wd._base.types import PyTree
from decoupled_wd.study.claims.drawings import Bars, Drawing
from decoupled_wd.study.claims.optimizers import SCHEDULES, Scalar
from decoupled_wd.study.claims.tuning import difference, grown
from decoupled_wd.study.claims.variants import with_norms
from decoupled_wd.study.claims.verdicts import OCTAVE, Finding, Verdict, level
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.statistics import Estimate, mean
from decoupled_wd.study.tasks.models import Model
from decoupled_wd.study.tasks.task import Run, Task, Training

WIDE, NEAREST = "float32", "to nearest"
ROUNDINGS: Mapping[str, optax.GradientTransformation | None] = MappingProxyType(
    {
        WIDE: None,
        NEAREST: None,
        "a residual": dwd.rounding.residual(),
        # the 16 bits of bfloat16, and 8 more
        "24 bits": dwd.rounding.residual(bits=8),
        "stochastic rounding": dwd.rounding.stochastic_rounding(0),
    }
)
"""How weights are held: in float32, or in bfloat16 with a last link."""
NATS = 0.02
"""The smallest difference in training loss that matters; two runs alike differ by half of it."""
ABOVE = "training loss above that of float32, nats"


@dataclass(frozen=True)
class Rounded:
    """Makes AdamW under a cosine, whose weights are written by one of `ROUNDINGS`."""

    rounding: str
    steps: int

    @property
    def label(self) -> tuple[str, ...]:
        """Names the schedule and the rounding."""
        return ("cosine", self.rounding)

    def __call__(self, learning_rate: Scalar, weight_decay: Scalar) -> optax.GradientTransformation:
        """Returns the optimiser of one setting."""
        rates, link = SCHEDULES["cosine"](learning_rate, self.steps), ROUNDINGS[self.rounding]
        return dwd.adamw(rates, weight_decay, peak_learning_rate=learning_rate, rounding=link)


@dataclass(frozen=True)
class Precision:
    """Measures what weights in bfloat16 lose, at settings that are given.

    They are held in bfloat16 between the steps, and everything is computed in float32; runs with
    the same seed start alike and see the same batches.

    Source: Zamirai et al., arXiv 2010.06192.
    """

    settings: Mapping[str, tuple[float, float]]
    """A name for each, to α and λ in the paper's unit."""
    looks: tuple[int, ...]

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains each rounding at each setting, judges, and describes what is lost."""
        found = self.train(run, task, look)
        verdicts = [
            verdict
            for place, (name, (rate, decay)) in enumerate(self.settings.items())
            for verdict in judge(
                {held: runs.isel(trial=place) for held, runs in found.items()},
                task,
                f"{task.name}, {name}: α = {rate:.2g}, λ = {decay:.2g}",
                self.looks,
            )
        ]
        return Finding(verdicts, {f"precision {task.name}": self._draw(found)})

    def train(self, run: Run, task: Task, look: int) -> dict[str, xr.Dataset]:
        """Trains, and returns by rounding what was measured at the end, over trial and seed."""
        rates, decays = zip(*self.settings.values(), strict=True)
        points = Points(learning_rate=rates, weight_decay=decays)
        return {
            name: grown(
                run,
                lambda seeds, name=name: Training(  # type: ignore[misc]
                    task._replace(model=held(task.model, is_narrow=name != WIDE)),
                    Rounded(name, task.steps),
                    points,
                    seeds=seeds,
                    experiment=("precision",),
                ),
                self.looks,
                look,
            ).isel(epoch=-1, drop=True)
            for name in ROUNDINGS
        }

    def _draw(self, found: Mapping[str, xr.Dataset]) -> Drawing:
        groups = {
            name: {
                held: lost(
                    {each: runs.isel(trial=place) for each, runs in found.items()}, held, self.looks
                )
                for held in found
                if held != WIDE
            }
            for place, name in enumerate(self.settings)
        }
        return Bars(groups, ylabel=ABOVE)


# a training is found again by its model, which must not be another one at each look
@cache
def held(model: Model, *, is_narrow: bool) -> Model:
    """Returns the model with its norms, and its weights in bfloat16 or as they are."""
    if not is_narrow:
        return with_norms(model)

    def wide(params: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)

    def init(key: jax.Array) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model.init(key))

    def loss(params: PyTree, *batch: jax.Array) -> jax.Array:
        return model.loss(wide(params), *batch)

    def evaluate(params: PyTree, *data: Any) -> dict[str, jax.Array]:
        return with_norms(model).evaluate(wide(params), *data)

    return Model(init, loss, evaluate)


def lost(
    found: Mapping[str, xr.Dataset],
    name: str,
    looks: tuple[int, ...],
    quantity: str = "train_loss",
) -> Estimate:
    """Estimates how much worse a rounding is than float32, of runs over seed.

    Examples:
      >>> losses = xr.DataArray(np.array([1.0, 2.0]), dims="seed")
      >>> found = {WIDE: xr.Dataset({"train_loss": losses})}
      >>> lost(found | {"24 bits": found[WIDE] + 0.5}, "24 bits", (2,)).value
      0.5
    """
    worse, wide = (found[each][quantity].values.astype(float) for each in (name, WIDE))
    return difference(worse, wide, level(looks))


def judge(
    found: Mapping[str, xr.Dataset], task: Task, where: str, looks: tuple[int, ...]
) -> list[Verdict]:
    """Judges what rounding to nearest loses, and that the others lose nothing."""
    norms = [found[each]["weight_norm"].values.astype(float) for each in (NEAREST, WIDE)]
    longer = mean(np.log2(norms[0] / norms[1]), level(looks))
    metric, count = task.metric, len(looks)
    statement = "Rounded to nearest, bfloat16 weights lose decay and end longer than in float32"
    return [
        Verdict(statement, where, "log2 of the norms at the end", longer, ">", 0.0, OCTAVE, count),
        Verdict(
            "Rounded to nearest, bfloat16 weights have a higher training loss than float32",
            where,
            ABOVE,
            lost(found, NEAREST, looks),
            ">",
            0.0,
            NATS,
            count,
        ),
        Verdict(
            f"Rounded to nearest, bfloat16 weights have a higher {metric.name} than float32",
            where,
            f"{metric.name} above that of float32, {metric.differences}",
            lost(found, NEAREST, looks, "test_error"),
            ">",
            0.0,
            task.matters,
            count,
        ),
        *(
            Verdict(
                f"bfloat16 weights with {name} have the training loss of float32",
                where,
                ABOVE,
                lost(found, name, looks),
                "≈",
                0.0,
                NATS,
                count,
            )
            for name in found
            if name not in (WIDE, NEAREST)
        ),
    ]
