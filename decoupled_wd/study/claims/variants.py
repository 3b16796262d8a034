"""Claim (xi): variants of AdamW's decay, each tuned like AdamW itself."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import xarray as xr
from numpy.typing import NDArray

import decoupled_wd as dwd
from decoupled_wd._base.types import PyTree, Schedule
from decoupled_wd.masks import matching, matrices, multipliers, without
from decoupled_wd.study.claims.choice import box
from decoupled_wd.study.claims.drawings import Bars, Drawing
from decoupled_wd.study.claims.optimizers import DECOUPLED, SCHEDULES, Scalar
from decoupled_wd.study.claims.tuning import (
    FRESH,
    Box,
    at_the_end,
    chosen,
    difference,
    mean,
    search_of,
    searched,
)
from decoupled_wd.study.claims.verdicts import OCTAVE, Finding, Verdict, level
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.tasks.models import Model
from decoupled_wd.study.tasks.task import Run, Task, Training

PLAIN, ADAMC, HYPERBALL = "AdamW", "AdamC", "hyperball"
NORMALISED = matching((r"(.*/)?(hidden|stem|blocks)/.*kernel", 1.0), (r".*", 0.0))
"""The matrices whose scale a normalisation takes away: all but embeddings and read-outs."""
TURNS = (2.0**-12, 2.0**-2)
"""The learning rates of `hyperball`, in radians."""


class Variant(NamedTuple):
    """Describes a variant, and what is said of it when it is tuned."""

    make: Callable[[Schedule, Scalar, Scalar], optax.GradientTransformation]
    """``make(schedule, peak, λ)``, λ in the paper's unit."""
    statement: str = ""
    """With a place for what is measured."""
    sense: str = ">"
    """``>`` where it should gain over AdamW, ``≈`` where it should be as good."""


def _adamw(
    rates: Schedule, peak: Scalar, decay: Scalar, **options: Any
) -> optax.GradientTransformation:
    return dwd.adamw(rates, decay, peak_learning_rate=peak, **options)


def _adamc(rates: Schedule, peak: Scalar, decay: Scalar) -> optax.GradientTransformation:
    """Returns AdamC, whose ``c_t = λ·η_t²`` on normalised layers is `CORRECTED` in λ/α."""
    link = partial(dwd.decay_weights, decay, learning_rate=rates, peak_learning_rate=peak)
    step = optax.chain(dwd.scale_by_adam(), optax.scale_by_learning_rate(rates))
    corrected = link(coupling=dwd.Coupling(0, 2), mask=NORMALISED)
    return optax.chain(step, corrected, link(mask=~NORMALISED))


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        PLAIN: Variant(_adamw),
        "cautious": Variant(
            partial(_adamw, rule=dwd.rules.cautious(dwd.rules.towards_zero())),
            "Cautious decay has a lower {} than AdamW",
        ),
        ADAMC: Variant(_adamc, "AdamC has a lower {} than AdamW"),
        HYPERBALL: Variant(
            lambda rates, _, __: dwd.hyperball(dwd.scale_by_adam(), rates),
            "Adam on the sphere, without decay, has a lower {} than AdamW",
        ),
        "matrices": Variant(
            partial(_adamw, mask=matrices()),
            "Decay of matrices alone has the same {} as decay of everything",
            "≈",
        ),
        "no embeddings": Variant(
            partial(_adamw, mask=matrices() & without("embedding")),
            "Decay of matrices but embeddings has the same {} as decay of everything",
            "≈",
        ),
    }
)


@dataclass(frozen=True)
class Varied:
    """Makes a variant under a cosine."""

    name: str
    steps: int

    @property
    def label(self) -> tuple[str, ...]:
        """The schedule and the name."""
        return ("cosine", self.name)

    def __call__(
        self, learning_rate: Scalar, weight_decay: Scalar = 0.0
    ) -> optax.GradientTransformation:
        """Returns the optimiser of one trial."""
        rates = SCHEDULES["cosine"](learning_rate, self.steps)
        return VARIANTS[self.name].make(rates, learning_rate, weight_decay)


@dataclass(frozen=True)
class Variants:
    """Measures what each variant gains over AdamW, if both have searches of as many trials.

    AdamC and AdamW are compared once more with the α and λ that AdamW's searches chose: the norms
    of weights and gradients of normalised layers at the end of the schedule.

    Source: cautious decay, arXiv 2510.12402; AdamC, 2506.02285; hyperball, 2606.16899; masks,
    common practice since Goyal et al., 1706.02677, against everything in 1711.05101.
    """

    names: tuple[str, ...]
    """Those of `VARIANTS` that are compared with AdamW."""
    trials: int
    looks: tuple[int, ...]
    """How many searches of each there are at each look."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains, judges, and describes the tuned errors."""
        found, worth = {}, {}
        for name in (PLAIN, *self.names):
            found[name], worth[name] = self._tuned(run, task, name, look)
        verdicts = judge(worth, task, self.looks)
        if ADAMC in self.names:
            norms = self._norms(run, task, found[PLAIN], look)
            verdicts += judge_norms(norms, task.name, self.looks)
        return Finding(verdicts, {f"variants {task.name}": draw(worth, task, self.looks)})

    def _tuned(
        self, run: Run, task: Task, name: str, look: int
    ) -> tuple[xr.Dataset, NDArray[np.float64]]:
        def training(searches: range) -> Training:
            return search_of(
                task,
                Varied(name, task.steps),
                space(name, task.decay),
                trials=self.trials,
                searches=searches,
                experiment=("variants",),
            )

        return searched(run, training, self.looks, look)

    def _norms(self, run: Run, task: Task, found: xr.Dataset, look: int) -> dict[str, xr.Dataset]:
        """Trains AdamW and AdamC with the choices of AdamW's searches, and fresh seeds."""
        choices, ends = chosen(found), [0, *self.looks[: look + 1]]
        measured = task._replace(model=with_norms(task.model))

        def training(name: str, part: xr.Dataset) -> Training:
            numbers = part["seed"].values
            points = {axis: part[axis].values for axis in ("learning_rate", "weight_decay")}
            return Training(
                measured,
                Varied(name, task.steps),
                Points(**points, seed=FRESH + numbers),
                seeds=range(numbers[0], numbers[-1] + 1),
                experiment=("variants", "norms"),
            )

        # those that a look adds are a training of their own
        parts = [choices.isel(seed=slice(low, high)) for low, high in itertools.pairwise(ends)]
        return {
            name: xr.concat(
                [at_the_end(run, training(name, part)) for part in parts],
                "trial",
                data_vars="minimal",
            )
            for name in (PLAIN, ADAMC)
        }


def space(name: str, scale: float) -> Box:
    """Returns the space of a search: AdamW's, or the radians of a step on the sphere.

    Examples:
      >>> space("hyperball", 1.0)
      {'learning_rate': (0.000244140625, 0.25)}
    """
    return {"learning_rate": TURNS} if name == HYPERBALL else box("Adam", DECOUPLED, scale)


@cache
def with_norms(model: Model) -> Model:
    """Returns the same model, which is evaluated with its norms at the end.

    They are ``weight_norm`` and ``gradient_norm``, of what is `NORMALISED`; the gradient is that of
    the first 256 training examples.
    """

    def evaluate(
        params: PyTree, train: tuple[Any, Any], held_out: Mapping[str, tuple[Any, Any]]
    ) -> dict[str, jax.Array]:
        some = tuple(part[:256] for part in train)
        gradients = jax.grad(model.loss)(params, *some, jax.random.key(0))
        m = multipliers(NORMALISED, params)
        norms = {
            f"{name}_norm": optax.tree.norm(jax.tree.map(lambda x, keep: x * keep, tree, m))
            for name, tree in (("weight", params), ("gradient", gradients))
        }
        return {**model.evaluate(params, train, held_out), **norms}

    return model._replace(evaluate=evaluate)


def judge(
    worth: Mapping[str, NDArray[np.float64]], task: Task, looks: tuple[int, ...]
) -> list[Verdict]:
    """Judges what each variant gains over AdamW, of paired searches."""
    return [
        Verdict(
            f"Tuned: {VARIANTS[name].statement.format(task.metric.name)}",
            task.name,
            f"gain in tuned {task.metric.name}, {task.metric.differences}",
            difference(worth[PLAIN], each, level(looks)),
            VARIANTS[name].sense,
            0.0,
            task.matters,
            len(looks),
        )
        for name, each in worth.items()
        if name != PLAIN
    ]


def judge_norms(
    norms: Mapping[str, xr.Dataset], where: str, looks: tuple[int, ...]
) -> list[Verdict]:
    """Judges whether AdamC's weights are larger, and its gradients smaller, at the end.

    Examples:
      >>> ones = xr.DataArray(np.ones(3), dims="trial")
      >>> plain = xr.Dataset({"weight_norm": ones, "gradient_norm": 2 * ones})
      >>> norms = {"AdamW": plain, "AdamC": xr.Dataset({"weight_norm": 2 * ones,
      ...     "gradient_norm": ones})}
      >>> [line.estimate.value for line in judge_norms(norms, "toy", (3,))]
      [1.0, 1.0]
    """

    def line(statement: str, quantity: str, more: str, less: str) -> Verdict:
        ratio = np.log2(norms[more][quantity].values / norms[less][quantity].values)
        return Verdict(
            statement,
            where,
            f"log2 of {quantity.replace('_', ' ')} at the end, {more} over {less}",
            mean(np.asarray(ratio, float), level(looks)),
            ">",
            0.0,
            OCTAVE,
            len(looks),
        )

    return [
        line("AdamC's normalised layers end larger than AdamW's", "weight_norm", ADAMC, PLAIN),
        line("AdamW's gradients end larger than AdamC's", "gradient_norm", PLAIN, ADAMC),
    ]


def draw(worth: Mapping[str, NDArray[np.float64]], task: Task, looks: tuple[int, ...]) -> Drawing:
    """Describes the gain of each variant over AdamW."""
    gains = {
        name: {"gain": difference(worth[PLAIN], each, level(looks))}
        for name, each in worth.items()
        if name != PLAIN
    }
    return Bars(
        gains, ylabel=f"gain over AdamW in tuned {task.metric.name}, {task.metric.differences}"
    )
