"""Random optimisers through random lives: steps, changed settings, checkpoints, accumulated gradients."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import decoupled_wd as dwd

PERIOD = 16
KERNEL, BIAS = np.array([[1.0, -2.0], [0.25, 3.0]]), np.array([0.5, -1.5])
OF_OPTAX = {
    "sgd": lambda lr: optax.sgd(lr, 0.9),
    "rmsprop": optax.rmsprop,
    "lion": lambda lr: optax.lion(lr, weight_decay=0.0),
    "still": lambda lr: optax.set_to_zero(),
}
ALIASES = {"sgdw": dwd.sgdw, "adamw": dwd.adamw}
PULLS = {
    "zero": dwd.rules.towards_zero(),
    "start": dwd.rules.towards_start(),
    "one": dwd.rules.towards(1.0),
    "norm": dwd.rules.towards_norm(),
    "lp": dwd.rules.lp(1.5),
    "cautious": dwd.rules.cautious(dwd.rules.towards_start()),
}
MASKS = {
    "everything": dwd.masks.everything(),
    "matrices": dwd.masks.matrices(),
    "half": dwd.masks.matching(("bias", 0.0), ("kernel", 0.5)),
}
COUPLINGS = [dwd.PAPER, dwd.LR, dwd.CONSTANT, dwd.CORRECTED]
ROUNDINGS = {
    "none": None,
    "residual": dwd.rounding.residual(),
    "byte": dwd.rounding.residual(bits=8),
    "stochastic": dwd.rounding.stochastic_rounding(0),
}
ALPHAS, LAMBDAS = st.sampled_from([0.1, 0.03]), st.sampled_from([0.0, 0.02, 0.3])


def signature(tree):
    """Structure, shapes and dtypes, None included."""
    return jax.tree.structure(tree), [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


class Life(RuleBasedStateMachine):
    """One optimiser; every change of its settings keeps its state."""

    @initialize(
        name=st.sampled_from([*ALIASES, *OF_OPTAX]),
        pull=st.sampled_from(list(PULLS)),
        mask=st.sampled_from(list(MASKS)),
        rounding=st.sampled_from(list(ROUNDINGS)),
        dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
        coupling=st.sampled_from(COUPLINGS),
        alpha=ALPHAS,
        lam=LAMBDAS,
        moves=st.tuples(st.booleans(), st.booleans()),
        others=st.booleans(),
    )
    def born(self, name, pull, mask, rounding, dtype, coupling, alpha, lam, moves, others):
        self.name, self.pull, self.mask, self.rounding = name, pull, mask, rounding
        self.coupling, self.alpha, self.lam = coupling, alpha, lam
        self.lr_moves, self.lambda_moves = moves
        self.params = {"bias": jnp.asarray(BIAS, dtype), "kernel": jnp.asarray(KERNEL, dtype)}
        if others:
            self.params["none"] = None
        if others and name in ALIASES:  # optax's own optimisers make floats of whole numbers
            self.params["steps"] = jnp.array([1, 2])
        self.start, self.count, self.c = self.params, 0, 0.0
        self.build()
        self.state = self.optimizer.init(self.params)
        self.kept = signature(self.params), signature(self.state)

    def build(self):
        lr = optax.cosine_decay_schedule(self.alpha, PERIOD) if self.lr_moves else self.alpha
        lam = optax.linear_schedule(self.lam, 0.0, PERIOD) if self.lambda_moves else self.lam
        chosen = {
            "learning_rate": lr,
            "weight_decay": lam,
            "peak_learning_rate": self.alpha,
            "coupling": self.coupling,
            "rule": PULLS[self.pull],
            "mask": MASKS[self.mask],
            "rounding": ROUNDINGS[self.rounding],
        }
        if self.name in ALIASES:
            self.optimizer = ALIASES[self.name](**chosen)
        else:  # optax's own state differs between a number and a schedule
            rate = lr if self.lr_moves else optax.constant_schedule(lr)
            self.optimizer = dwd.decouple(OF_OPTAX[self.name](rate), **chosen)
        self.compiled = jax.jit(self.optimizer.update)

    def fraction(self):
        """c_t of the formula, in float64."""
        t = min(self.count, PERIOD)
        eta = 0.5 * (1 + np.cos(np.pi * t / PERIOD)) if self.lr_moves else 1.0
        lam = self.lam * (1 - t / PERIOD) if self.lambda_moves else self.lam
        return lam * self.alpha**self.coupling.p * eta**self.coupling.s

    def gradients(self, seed):
        """In the params' dtype; in float32 before a rounding link, as it needs under MultiSteps.

        Not so for optax's own optimisers, whose moments in bfloat16 become float32 with the first such gradient.
        """
        rng, dtype = np.random.default_rng(seed), self.params["kernel"].dtype
        dtype = jnp.float32 if self.rounding != "none" and self.name in ALIASES else dtype
        g = {name: jnp.asarray(rng.normal(size=self.params[name].shape), dtype)
             for name in ("bias", "kernel")}  # fmt: skip
        still = {name: self.params[name] for name in self.params if name not in g}
        return g | jax.tree.map(jnp.zeros_like, still)

    def emitted(self, g):
        """Of the updates: as the gradients, and float32 behind a rounding link."""
        if self.rounding == "none":
            return signature(g)
        return signature(
            jax.tree.map(
                lambda x: (
                    x.astype(jnp.promote_types(x.dtype, jnp.float32))
                    if jnp.issubdtype(x.dtype, jnp.inexact)
                    else x
                ),
                g,
            )
        )

    def keeps_dtype(self):
        g = self.gradients(0)
        return self.emitted(g) == signature(g)

    def take(self, updates, state):
        self.c, self.count = self.fraction(), self.count + 1
        self.params, self.state = optax.apply_updates(self.params, updates), state

    @rule(seed=st.integers(0, 99))
    def step(self, seed):
        g = self.gradients(seed)
        eager, state = self.optimizer.update(g, self.state, self.params)
        updates, compiled = self.compiled(g, self.state, self.params)
        assert signature(updates) == self.emitted(g)
        assert signature(compiled) == signature(state)
        narrow = self.params["kernel"].dtype == jnp.bfloat16
        for name in ("bias", "kernel"):  # some places of the last: XLA fuses, and a dither may tip
            one, other = (
                np.asarray(self.params[name] + u[name], np.float64) for u in (eager, updates)
            )
            np.testing.assert_allclose(one, other, rtol=0, atol=2**-5 if narrow else 1e-5)
        self.take(updates, compiled)

    @rule(lr_moves=st.booleans(), lambda_moves=st.booleans())
    def swap_numbers_and_schedules(self, lr_moves, lambda_moves):
        self.lr_moves, self.lambda_moves = lr_moves, lambda_moves
        self.build()
        assert signature(self.optimizer.init(self.params)) == self.kept[1]

    @rule(alpha=ALPHAS, lam=LAMBDAS, coupling=st.sampled_from(COUPLINGS))
    def change_a_hyperparameter(self, alpha, lam, coupling):
        self.alpha, self.lam, self.coupling = alpha, lam, coupling
        self.build()
        assert signature(self.optimizer.init(self.params)) == self.kept[1]

    @rule(seed=st.integers(0, 99))
    def save_and_restore(self, seed):
        saved = [np.array(leaf) for leaf in jax.tree.leaves(self.state)]
        self.build()
        structure = jax.tree.structure(self.optimizer.init(self.params))
        restored = structure.unflatten(map(jnp.asarray, saved))
        g = self.gradients(seed)
        expected = self.optimizer.update(g, self.state, self.params)
        assert bits(self.optimizer.update(g, restored, self.params)) == bits(expected)
        self.state = restored

    # it averages whole numbers too, and emits the gradients' dtype
    @precondition(lambda self: "steps" not in self.params and self.keeps_dtype())
    @rule(seed=st.integers(0, 99))
    def under_multi_steps(self, seed):
        several, g = optax.MultiSteps(self.optimizer, 2), self.gradients(seed)
        held = several.init(self.params)._replace(inner_opt_state=self.state)
        update = jax.jit(several.update)
        nothing, held = update(g, held, self.params)
        assert not any(map(jnp.any, jax.tree.leaves(nothing)))
        assert bits(held.inner_opt_state) == bits(self.state)
        updates, held = update(g, held, self.params)
        assert signature(updates) == self.emitted(g)
        self.take(updates, held.inner_opt_state)

    @invariant()
    def structure_shapes_and_dtypes_stay(self):
        assert (signature(self.params), signature(self.state)) == self.kept

    @invariant()
    def the_fraction_is_the_formula(self):
        assert int(self.state.decay.count) == self.count
        np.testing.assert_allclose(float(self.state.decay.fraction), self.c, rtol=1e-5, atol=1e-9)

    @invariant()
    def what_does_not_train_is_untouched(self):
        assert self.params.get("none") is None
        assert bits(self.params.get("steps")) == bits(self.start.get("steps"))

    @invariant()
    def what_is_masked_out_does_not_decay(self):
        if self.name == "still" and self.mask != "everything":
            assert bits(self.params["bias"]) == bits(self.start["bias"])

    @invariant()
    def weights_are_finite(self):
        assert all(np.isfinite(np.asarray(self.params[x], float)).all() for x in ("bias", "kernel"))


TestLife = Life.TestCase
TestLife.settings = settings(
    derandomize=True, database=None, max_examples=16, stateful_step_count=8, deadline=None
)
