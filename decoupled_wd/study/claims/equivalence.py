"""Claim (i): an L2 penalty and decoupled decay take the same steps in SGD and not in Adam.

Two copies of a network train in lockstep, from the same start and on the same batches: one with
the penalty ``½·λ'·Σ s·θ²`` in its loss, one with decay λ beside the same optimiser. In float64: a
ReLU that rounding turns on in one copy alone is enough to part trajectories that are the same in
exact arithmetic, and in float32 that happens every million activations.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from decoupled_wd import adam, decouple, sgd
from decoupled_wd._base.types import PyTree
from decoupled_wd.study.claims.drawings import Drawing, Lines
from decoupled_wd.study.claims.optimizers import Scalar
from decoupled_wd.study.claims.verdicts import Finding, Verdict
from decoupled_wd.study.grid.cells import DRAWN_ONCE
from decoupled_wd.study.statistics import Estimate
from decoupled_wd.study.tasks.task import Run, Task

ROUNDING, MATTERS = 1e-6, 0.01
"""Shares of what the decay does.

Less than the first is nothing that float32 could tell, and more than the second counts.
"""
DECOUPLED_DECAY, SGD_RATE, ADAM_RATE = 1e-3, 0.05, 0.01


class Case(NamedTuple):
    """Describes one pair: an optimiser, its α, and λ' of one copy.

    The other copy has decay λ.
    """

    rate: float
    l2: float
    momentum: float = 0.0
    annealed: float = 0.0
    """1 for cosine annealing, 0 for a fixed learning rate."""
    adaptive: float = 0.0
    """1 for Adam, 0 for SGD."""
    preconditioned: float = 0.0
    """1 for SGD behind a fixed ``M = diag(s)^-1`` and a penalty scaled by s, 0 for s = 1."""


STRENGTHS = np.geomspace(1e-3, 1e3, 25)
"""λ' of Adam over λ/α: three decades on both sides of what is right for SGD."""

CASES: Mapping[str, Case] = MappingProxyType(
    {
        "SGD": Case(SGD_RATE, DECOUPLED_DECAY / SGD_RATE),
        "SGD, cosine": Case(SGD_RATE, DECOUPLED_DECAY / SGD_RATE, annealed=1),
        "SGD, λ' = 0": Case(SGD_RATE, 0.0),
        "SGD, cosine, λ' = 0": Case(SGD_RATE, 0.0, annealed=1),
        # a buffer adds each gradient, and so the penalty, 1/(1 − β1) times in the long run
        "momentum": Case(SGD_RATE, (1 - 0.9) * DECOUPLED_DECAY / SGD_RATE, momentum=0.9),
        "momentum, λ' = 0": Case(SGD_RATE, 0.0, momentum=0.9),
        "scaled L2": Case(0.5, DECOUPLED_DECAY / 0.5, preconditioned=1),
        "scaled L2 as printed": Case(0.5, DECOUPLED_DECAY / 0.5**2, preconditioned=1),
        "scaled L2 as printed, α = 1": Case(1.0, DECOUPLED_DECAY, preconditioned=1),
        "scaled L2, λ' = 0": Case(0.5, 0.0, preconditioned=1),
        "scaled L2, α = 1, λ' = 0": Case(1.0, 0.0, preconditioned=1),
        "Adam, λ' = 0": Case(ADAM_RATE, 0.0, adaptive=1),
    }
    | {
        f"Adam, {ratio:.3g}·λ/α": Case(ADAM_RATE, ratio * DECOUPLED_DECAY / ADAM_RATE, adaptive=1)
        for ratio in STRENGTHS
    }
)
"""Eq. (2) of the paper prints λ'/(2α) with λ' = λ/α, which has α once too often."""

SEARCHED = [name for name, case in CASES.items() if case.adaptive and case.l2 > 0]


def lockstep(task: Task, cases: Mapping[str, Case], *, steps: int, seeds: int) -> xr.Dataset:
    """Trains two copies of the network and returns how far they part.

    That is the distance of the copies and the norm of the decayed one, after every step.

    With λ' = 0 the first copy has no decay at all, and the distance is what the decay does.
    """
    x, y = jnp.asarray(task.dataset.x_train, float), jnp.asarray(task.dataset.y_train)
    shapes = jax.eval_shape(task.model.init, jax.random.key(0))
    zeros, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes))
    # s > 0 with median 100, so that even α = 1 makes small steps
    spread = 100 * jnp.exp(jax.random.normal(jax.random.key(0), zeros.shape))

    def copies(
        case: Case, start: jax.Array, key: jax.Array, batches: jax.Array
    ) -> dict[str, jax.Array]:
        # all cases run one program, and their numbers choose what it does
        scale = jnp.where(case.preconditioned, spread, 1.0)

        def penalised(
            weights: jax.Array, l2: jax.Array, rows: jax.Array, key: jax.Array
        ) -> jax.Array:
            cost = task.model.loss(unravel(weights), x[rows], y[rows], key)
            return cost + l2 / 2 * jnp.sum(scale * weights**2)

        def learn(
            weights: jax.Array,
            state: optax.OptState,
            l2: jax.Array,
            decay: jax.Array,
            *batch: jax.Array,
        ) -> tuple[jax.Array, optax.OptState]:
            gradient = jax.grad(penalised)(weights, l2, *batch)
            optimizer = _decayed(case, decay, scale, steps)
            update, state = optimizer.update(gradient, state, weights)
            return weights + update, state

        def step(carry: PyTree, batch: PyTree) -> tuple[PyTree, dict[str, jax.Array]]:
            # the first copy has the penalty, the second the decay
            strengths = jnp.array([case.l2, 0.0]), jnp.array([0.0, DECOUPLED_DECAY])
            # both copies see the same batch and the same key
            both = jax.vmap(learn, (0, 0, 0, 0, None, None))
            weights, states = both(*carry, *strengths, *batch)
            distance, norm = (jnp.linalg.norm(w) for w in (weights[0] - weights[1], weights[1]))
            return (weights, states), {"distance": distance, "norm": norm}

        carry = start, _decayed(case, 0.0, scale, steps).init(start)
        carry = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), carry)
        return jax.lax.scan(step, carry, (batches, jax.random.split(key, steps)))[1]

    size = seeds, steps, task.batch_size
    batches = np.random.default_rng(0).integers(len(x), size=size)
    # one case whose numbers are arrays, over which vmap goes
    grid = Case(*np.array(list(cases.values()), float).T)
    keys = jax.random.split(jax.random.key(0), seeds)
    draw = jax.vmap(lambda key: ravel_pytree(task.model.init(key))[0].astype(float))
    starts = jax.jit(draw, compiler_options=DRAWN_ONCE)(keys)
    program = jax.jit(jax.vmap(jax.vmap(copies, (None, 0, 0, 0)), (0, None, None, None)))
    found = jax.device_get(program(grid, starts, keys, batches))
    return xr.Dataset(
        {name: (("case", "seed", "step"), values) for name, values in found.items()},
        {"case": list(cases), "seed": np.arange(seeds), "step": np.arange(1, steps + 1)},
    )


@dataclass(frozen=True)
class Equivalence:
    """Measures how far L2 and decoupled decay are apart after some steps.

    The optimisers are SGD, SGD with momentum, SGD behind a fixed M, and Adam.

    Nothing here is noisy: the interval of each estimate is the range over the seeds.

    Source: arXiv 1711.05101, Propositions 1 to 3 and eq. (2).
    """

    steps: int = 48
    seeds: int = 2

    @property
    def looks(self) -> tuple[int, ...]:
        """Returns a single look, since nothing here is noisy."""
        return (self.seeds,)

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains the pairs in lockstep, judges the propositions, and describes the distances."""
        # two copies at once are no sweep, and take seconds
        del run, look
        found = self.train(task)
        return Finding(judge(found, task.name), {f"equivalence {task.name}": draw(found)})

    def train(self, task: Task) -> xr.Dataset:
        """Trains all `CASES` in float64."""
        with jax.enable_x64(True), warnings.catch_warnings():
            # BatchNorm keeps the statistics of the last batch in float32; nothing here reads them
            words = "scatter inputs have incompatible types"
            warnings.filterwarnings("ignore", words, FutureWarning)
            return lockstep(task, CASES, steps=self.steps, seeds=self.seeds)


def judge(found: xr.Dataset, where: str) -> list[Verdict]:
    """Judges the propositions, on what `lockstep` found for `CASES`."""
    distance = found["distance"].isel(step=-1)

    def line(statement: str, cases: Sequence[str], like: str, sense: str, bound: float) -> Verdict:
        share = distance.sel(case=list(cases)).min("case") / distance.sel(case=f"{like}, λ' = 0")
        estimate = Estimate(
            float(share.mean()), float(share.min()), float(share.max()), 0.0, share.size
        )
        return Verdict(statement, where, "distance over what decay does", estimate, sense, bound)

    steps = "SGD with L2, λ' = λ/α, takes the steps of SGDW"
    close = "With momentum λ' = (1 − β1)·λ/α does most of what λ does"
    never = f"Adam with L2 takes the steps of AdamW for none of {len(STRENGTHS)} λ'"
    scaled = "Behind a fixed M decay is L2 scaled by M's inverse, times λ/(2α)"
    twice, printed = "Eq. (2) as printed", "scaled L2 as printed"
    return [
        line(f"{steps}, α fixed", ["SGD"], "SGD", "<", ROUNDING),
        line(f"{steps}, α annealed", ["SGD, cosine"], "SGD, cosine", "<", ROUNDING),
        line(close, ["momentum"], "momentum", "<", 0.5),
        line("With momentum that is not exact", ["momentum"], "momentum", ">", MATTERS),
        line(never, SEARCHED, "Adam", ">", MATTERS),
        line(scaled, ["scaled L2"], "scaled L2", "<", ROUNDING),
        line(f"{twice} is another penalty for α = ½", [printed], "scaled L2", ">", MATTERS),
        line(
            f"{twice} is right for α = 1", [f"{printed}, α = 1"], "scaled L2, α = 1", "<", ROUNDING
        ),
    ]


def _decayed(
    case: Case, decay: Scalar, scale: jax.Array, steps: int
) -> optax.GradientTransformation:
    """Returns the optimiser of a case, with decoupled decay."""
    cosine = optax.cosine_decay_schedule(1.0, steps)

    def rates(count: ArrayLike) -> jax.Array:
        rate: jax.Array = case.rate * (1 - case.annealed * (1 - cosine(count)))
        return rate

    divide = optax.stateless(lambda gradient, _: gradient / scale)
    inner = _either(
        case.adaptive,
        adam(rates, 0.0),
        optax.chain(divide, sgd(rates, 0.0, momentum=case.momentum)),
    )
    return decouple(inner, decay, learning_rate=rates, peak_learning_rate=case.rate)


def _either(
    choose_first: Scalar, first: optax.GradientTransformation, second: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Chooses an optimiser by a traced number, so that all cases are one program."""

    def update(
        gradients: optax.Updates, states: optax.OptState, params: optax.Params | None
    ) -> tuple[optax.Updates, optax.OptState]:
        one, state = first.update(gradients, states[0], params)
        other, other_state = second.update(gradients, states[1], params)
        chosen = jax.tree.map(lambda a, b: jnp.where(choose_first, a, b), one, other)
        return chosen, (state, other_state)

    return optax.GradientTransformation(lambda p: (first.init(p), second.init(p)), update)


def draw(found: xr.Dataset) -> Drawing:
    """Describes the distance over the steps, relative to the norm."""
    relative = found["distance"] / found["norm"]
    nearest = str(relative.sel(case=SEARCHED).isel(step=-1).mean("seed").idxmin().item())
    panels = {
        "SGD": {"L2": "SGD", "no decay": "SGD, λ' = 0"},
        "SGD with momentum 0.9": {"L2": "momentum", "no decay": "momentum, λ' = 0"},
        "SGD behind a fixed preconditioner": {
            "L2": "scaled L2",
            "L2 as printed in eq. (2)": "scaled L2 as printed",
            "no decay": "scaled L2, λ' = 0",
        },
        "Adam, with the λ' that comes nearest": {"L2": nearest, "no decay": "Adam, λ' = 0"},
    }
    return Lines(
        {
            title: {k: relative.sel(case=v) for k, v in cases.items()}
            for title, cases in panels.items()
        },
        x="step",
        xlabel="steps",
        ylabel="distance from decoupled, over ||θ||",
        log="y",
    )
