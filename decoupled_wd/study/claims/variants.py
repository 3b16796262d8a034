"""Variants of AdamW's decay, with what is said of each, and how their norms are measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import optax

import decoupled_wd as dwd
from decoupled_wd._base.types import PyTree, Schedule
from decoupled_wd.masks import matching, matrices, multipliers, without
from decoupled_wd.study.claims.choice import box
from decoupled_wd.study.claims.optimizers import DECOUPLED, SCHEDULES, Scalar
from decoupled_wd.study.claims.tuning import Box
from decoupled_wd.study.tasks.models import Model

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
    """A sentence, with a place for the name of what is measured."""
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
    # weights without a normalisation behind them decay as in AdamW
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
            # the norm is held, and λ has nothing to do
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
        """Names the schedule and the variant."""
        return ("cosine", self.name)

    def __call__(
        self, learning_rate: Scalar, weight_decay: Scalar = 0.0
    ) -> optax.GradientTransformation:
        """Returns the optimiser of one trial."""
        rates = SCHEDULES["cosine"](learning_rate, self.steps)
        return VARIANTS[self.name].make(rates, learning_rate, weight_decay)


def space(name: str, scale: float) -> Box:
    """Returns the space of a search: AdamW's, or the radians of a step on the sphere.

    Examples:
      >>> space("hyperball", 1.0)
      {'learning_rate': (0.000244140625, 0.25)}
    """
    return {"learning_rate": TURNS} if name == HYPERBALL else box("Adam", DECOUPLED, scale)


# a training is found again by its model, which must not be another one at each look
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
