"""Claim (vi), its other half: SGD ⊆ momentum ⊆ Adam, at a large ε and where all is tuned."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray

from decoupled_wd import add_decayed_weights, scale_by_adam, scale_by_momentum
from decoupled_wd._base.types import PyTree
from decoupled_wd.study.claims.best_of import Trials, by_search, expected, gain
from decoupled_wd.study.claims.drawings import Bars, Drawing, Lines
from decoupled_wd.study.claims.optimizers import Scalar
from decoupled_wd.study.claims.tuning import grown, search_of
from decoupled_wd.study.claims.verdicts import Finding, Verdict, level
from decoupled_wd.study.statistics import Estimate
from decoupled_wd.study.tasks.task import Run, Task, Training

Anneal: TypeAlias = Callable[[Scalar], optax.Schedule]
"""From a peak to the schedule that falls from it."""
LARGE = np.logspace(0, 4, 5)
"""The ε that should tend to momentum; a gradient of this study is of the order of 0.01 a weight."""
SPACE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "rate": (2.0**-7, 2.0**3),
        "l2": (2.0**-12, 2.0**-3),
        "forgetting": (2.0**-6, 1.0),
        "eps": (1e-4, 1.0),
    }
)
"""α/(1 − β1) or, of Adam, α/ε; λ'; 1 − β1; ε: each family's space is the next one's at its edge."""


def sgd(anneal: Anneal, rate: Scalar) -> optax.GradientTransformation:
    """Returns SGD: ``θ ← θ − lr_t·g``."""
    return optax.sgd(anneal(rate))


def momentum(anneal: Anneal, rate: Scalar, forgetting: Scalar) -> optax.GradientTransformation:
    """Returns momentum: ``m ← β1·m + g``, ``θ ← θ − lr_t·m``.

    The learning rate is outside the buffer, as it is in Adam.
    """
    # a buffer adds each gradient 1/(1 − β1) times in the long run, which is taken back
    lr = optax.scale_by_learning_rate(anneal(rate * forgetting))
    return optax.chain(scale_by_momentum(1 - forgetting), lr)


def adam(
    anneal: Anneal, rate: Scalar, forgetting: Scalar, eps: Scalar
) -> optax.GradientTransformation:
    """Returns Adam with α = rate·ε."""
    lr = optax.scale_by_learning_rate(anneal(rate * eps))
    return optax.chain(scale_by_adam(1 - forgetting, eps=eps), lr)


NESTED: Mapping[str, tuple[Callable[..., optax.GradientTransformation], int]] = MappingProxyType(
    {"SGD": (sgd, 2), "momentum": (momentum, 3), "Adam": (adam, 4)}
)
"""Each optimiser and how many axes of `SPACE` it has."""


@dataclass(frozen=True)
class Nested:
    """Makes an optimiser of `NESTED` with L2, under a cosine."""

    family: str
    steps: int

    @property
    def label(self) -> tuple[str, ...]:
        """Names the family."""
        return (self.family,)

    def __call__(self, l2: Scalar, **others: Scalar) -> optax.GradientTransformation:
        """Returns the optimiser of one trial, from the axes that its family has."""
        make_step, _ = NESTED[self.family]
        anneal = partial(optax.cosine_decay_schedule, decay_steps=self.steps)
        return optax.chain(add_decayed_weights(l2), make_step(anneal, **others))


@dataclass(frozen=True)
class Inclusion:
    """Measures whether a larger family of optimisers includes a smaller one.

    It measures how far Adam is from momentum at a large ε, and what each family gains over the one
    within it.

    Every family, all with L2 and cosine, has searches of `trials` trials: a larger space is
    searched more thinly. So the larger family counts as no worse until it loses what matters. What
    a search ends with is expected as in `best_of`.

    Source: Choi et al., arXiv 1910.05446, sections 3 and 4.
    """

    trials: int
    looks: tuple[int, ...]
    """How many searches of each family there are at each look."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains searches and paths, judges, and describes errors and distances."""
        tried, apart = self.train(run, task, look), distances(task, LARGE)
        verdicts = judge(tried, task, self.looks) + judge_limit(apart, task.name)
        return Finding(verdicts, draw(tried, apart, task, level(self.looks)))

    def train(self, run: Run, task: Task, look: int) -> dict[str, Trials]:
        """Trains each family's searches."""
        return {family: self._tried(run, task, family, look) for family in NESTED}

    def _tried(self, run: Run, task: Task, family: str, look: int) -> Trials:
        _, axes = NESTED[family]

        def training(searches: range) -> Training:
            return search_of(
                task,
                Nested(family, task.steps),
                dict(itertools.islice(SPACE.items(), axes)),
                trials=self.trials,
                searches=searches,
                experiment=("inclusion",),
            )

        return by_search(grown(run, training, self.looks, look).isel(epoch=-1, drop=True))


def judge(tried: Mapping[str, Trials], task: Task, looks: tuple[int, ...]) -> list[Verdict]:
    """Judges whether each family is no worse than the one within it."""
    return [
        Verdict(
            f"Tuned {larger} is no worse than tuned {smaller}, which it includes",
            task.name,
            f"gain in tuned {task.metric.name}, {task.metric.differences}",
            gain(tried[smaller], tried[larger], level(looks)),
            ">",
            # what matters is in the bound, and no margin stands beside it
            -task.matters,
            looks=len(looks),
        )
        for smaller, larger in itertools.pairwise(NESTED)
    ]


def distances(
    task: Task,
    epsilons: NDArray[np.float64],
    *,
    rate: float = 0.1,
    b1: float = 0.9,
    steps: int = 16,
) -> NDArray[np.float64]:
    """Measures how far Adam's path is from momentum's, for every ε.

    The distance is relative to how far momentum goes.

    Both start alike and see the same few batches: over many, the kinks of ReLU part any two paths.
    Adam's α is ``η·ε/(1 − β1)``, times ``1 − β1^t``: that takes back its bias correction, which
    momentum lacks.
    """

    def distance(eps: Scalar) -> PyTree:
        # momentum has no bias correction, and α that grows like this takes Adam's back
        corrected = adam(
            lambda alpha: lambda count: alpha * (1 - b1 ** (count + 1)), rate, 1 - b1, eps
        )
        return jnp.linalg.norm(_path(task, corrected, steps) - followed)

    followed = _path(task, momentum(optax.constant_schedule, rate, 1 - b1), steps)
    gone = jnp.linalg.norm(followed - followed[0])
    return np.asarray(jax.lax.map(distance, jnp.asarray(epsilons)) / gone, float)


def _path(task: Task, optimizer: optax.GradientTransformation, steps: int) -> jax.Array:
    """Returns the start and the weights after each step.

    Their shape is ``[steps + 1, weights]``.
    """
    x, y = jnp.asarray(task.dataset.x_train), jnp.asarray(task.dataset.y_train)
    start, order, key = jax.random.split(jax.random.key(0), 3)
    params = task.model.init(start)

    def step(carry: PyTree, rows: jax.Array) -> tuple[PyTree, jax.Array]:
        params, state = carry
        gradients = jax.grad(task.model.loss)(params, x[rows], y[rows], key)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), ravel_pytree(params)[0]

    batches = jax.random.choice(order, len(y), (steps, task.batch_size))
    _, path = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return jnp.concatenate([ravel_pytree(params)[0][None], path])


def judge_limit(apart: NDArray[np.float64], where: str) -> list[Verdict]:
    """Judges how near Adam comes to momentum, and how fast."""
    slope = float(np.polyfit(np.log(LARGE), np.log(apart), 1)[0])
    return [
        Verdict(
            "Adam with a large ε follows momentum",
            where,
            f"distance of the paths at ε = {LARGE[-1]:g}, relative",
            _exactly(apart[-1]),
            "<",
            0.01,
        ),
        Verdict(
            "Adam approaches momentum as 1/ε",
            where,
            "|d log distance / d log ε + 1|",
            _exactly(abs(slope + 1)),
            "<",
            0.1,
        ),
    ]


def draw(
    tried: Mapping[str, Trials],
    apart: NDArray[np.float64],
    task: Task,
    level: float,
) -> dict[str, Drawing]:
    """Describes the tuned errors, and the distance over ε."""
    tested = {name: {"all tuned": expected(each, level)} for name, each in tried.items()}
    distance = {"Adam, α = η·ε / (1 − β1)": xr.DataArray(apart, {"eps": LARGE}, ("eps",))}
    label = "distance from momentum, relative"
    return {
        f"inclusion {task.name}": Bars(tested, ylabel=f"tuned {task.metric.label}"),
        f"large ε {task.name}": Lines(
            {task.name: distance}, x="eps", xlabel="ε", ylabel=label, log="xy"
        ),
    }


def _exactly(number: float) -> Estimate:
    """Returns an estimate without uncertainty: nothing is drawn."""
    return Estimate(float(number), float(number), float(number))
