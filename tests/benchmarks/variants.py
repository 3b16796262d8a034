"""Every variant of an optimiser that is measured, with the bytes for each weight that its formula says."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import decoupled_wd as dwd
from decoupled_wd import rules

F32, BF16 = jnp.float32, jnp.bfloat16
RESIDUAL, STOCHASTIC = dwd.rounding.residual(), dwd.rounding.stochastic_rounding(0)
BYTE = dwd.rounding.residual(bits=8)
PEER = "optax.adamw"


class Variant(NamedTuple):
    """Bytes for each weight: state that a step replaces, state that it reads, and what a norm reads before."""

    optimizer: optax.GradientTransformation
    replaced: int
    kept: int = 0
    dtype: jnp.dtype = F32
    reread: int = 0

    @property
    def state(self) -> int:
        """What the optimiser holds beside the weights."""
        return self.replaced + self.kept

    @property
    def floor(self) -> int:
        """What a step must move: gradient and kept state in, weight and replaced state in and out."""
        weight = jnp.dtype(self.dtype).itemsize
        return weight + 2 * (weight + self.replaced) + self.kept + self.reread


def _adamw(replaced=8, kept=0, dtype=F32, reread=0, **options):
    return Variant(dwd.adamw(1e-3, 1e-4, **options), replaced, kept, dtype, reread)


def _sgdw(replaced=4, kept=0, dtype=F32, **options):
    return Variant(dwd.sgdw(1e-3, 1e-4, **options), replaced, kept, dtype)


_RUN = {"batch_size": 1, "dataset_size": 3, "first_cycle_epochs": 1}
_MU, _MU_NU, _MOMENTUM = {"mu_dtype": BF16}, {"mu_dtype": BF16, "nu_dtype": BF16}, BF16
_SCHEDULE = optax.cosine_decay_schedule(1e-3, 100)

ALIASES = {
    PEER: Variant(optax.adamw(1e-3), 8),
    "sgd": Variant(dwd.sgd(1e-3, 1e-4), 4),
    "sgdw": _sgdw(),
    "sgdwr": Variant(dwd.sgdwr(1e-3, 0.05, **_RUN), 4),
    "adam": Variant(dwd.adam(1e-3, 1e-4), 8),
    "adamw": _adamw(),
    "adamw, cosine": Variant(dwd.adamw(_SCHEDULE, 1e-4, peak_learning_rate=1e-3), 8),
    "adamwr": Variant(dwd.adamwr(1e-3, 0.05, **_RUN), 8),
    "adamw, matrices": _adamw(mask=dwd.masks.matrices()),
    "decouple(optax.sgd)": Variant(dwd.decouple(optax.sgd(1e-3, 0.9), 1e-4), 4),
}
ELEMENTWISE = {
    "towards_start": (rules.towards_start(), {"kept": 4}),
    "towards(1.0)": (rules.towards(1.0), {}),
    "huber": (rules.huber(0.1), {}),
    "lp(1)": (rules.lp(1), {}),
    "lp(1.5)": (rules.lp(1.5), {}),
    "cautious": (rules.cautious(rules.towards_zero()), {}),
    "cautious(towards_start)": (rules.cautious(rules.towards_start()), {"kept": 4}),
}
NORMS = {
    "towards_norm(0.5)": (rules.towards_norm(0.5), {"reread": 4}),
    "towards_norm": (rules.towards_norm(), {"reread": 4}),
    "towards_norm(axis=0)": (rules.towards_norm(axis=0), {"reread": 4}),
    "towards_norm(axis=1)": (rules.towards_norm(axis=1), {"reread": 4}),
    "cautious(towards_norm)": (rules.cautious(rules.towards_norm()), {"reread": 4}),
    # the gradient, of which a row is asked before anything else
    "touched": (rules.touched(rules.towards_zero()), {"reread": 4}),
    # θ, and the step or the two moments that it is made of, once more
    "onto_norm": (rules.onto_norm(), {"reread": 12}),
    "onto_norm(axis=1)": (rules.onto_norm(axis=1), {"reread": 12}),
    "onto_norm, one_sided": (rules.onto_norm(one_sided=True), {"reread": 12}),
}
RULES = {
    f"adamw, {name}": _adamw(rule=rule, **bytes_)
    for name, (rule, bytes_) in (ELEMENTWISE | NORMS).items()
}
# ||u||, <θ, u> and ||θ|| could be taken together: the floor is that of onto_norm, with one collective
SPHERES = {
    "hyperball": Variant(dwd.hyperball(dwd.scale_by_adam(), 1e-2), 8, reread=12),
    "hyperball, optax.scale_by_adam": Variant(
        dwd.hyperball(optax.scale_by_adam(), 1e-2), 8, reread=12
    ),
    "hyperball, the gradient": Variant(dwd.hyperball(optax.identity(), 1e-2), 0, reread=8),
    "bf16 residual hyperball": Variant(
        dwd.hyperball(dwd.scale_by_adam(), 1e-2, rounding=RESIDUAL), 10, dtype=BF16, reread=12
    ),
}
MOMENTS = {
    "adamw, mu bf16": _adamw(6, **_MU),
    "adamw, mu nu bf16": _adamw(4, **_MU_NU),
    "sgdw, m bf16": _sgdw(2, momentum_dtype=BF16),
}
ROUNDINGS = {
    f"bf16{suffix} {name}": make(held + extra, dtype=BF16, rounding=rounding, **options)
    for suffix, rounding, extra in (
        ("", None, 0),
        (" stochastic", STOCHASTIC, 0),
        (" residual", RESIDUAL, 2),
        (" residual of 8 bits", BYTE, 1),
    )
    for name, make, held, options in (
        ("adamw", _adamw, 8, {}),
        ("adamw, mu bf16", _adamw, 6, _MU),
        ("adamw, mu nu bf16", _adamw, 4, _MU_NU),
        ("sgdw", _sgdw, 4, {}),
        ("sgdw, m bf16", _sgdw, 2, {"momentum_dtype": BF16}),
    )
} | {
    "bf16 residual adamw, towards_start": _adamw(
        10, kept=2, dtype=BF16, rounding=RESIDUAL, rule=rules.towards_start()
    ),
    "bf16 residual adamw, towards_norm": _adamw(
        10, dtype=BF16, reread=4, rounding=RESIDUAL, rule=rules.towards_norm()
    ),
    "bf16 residual adamw, mu nu bf16, cautious": _adamw(
        6, dtype=BF16, rounding=RESIDUAL, rule=rules.cautious(rules.towards_zero()), **_MU_NU
    ),
}
VARIANTS = ALIASES | RULES | SPHERES | MOMENTS | ROUNDINGS


def step_of(optimizer):
    """One training step after the gradient, to be compiled with weights and state donated."""

    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return step


def size(tree):
    """Bytes of all leaves."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
