"""What the tests share: a noisy quadratic with several curvatures, and float64 on request."""

import gc
import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

# Most of the suite's time is XLA's. What it has compiled is kept, for the other process and the next
# run, and it optimises little, which takes 3/4 of the time. XLA_FLAGS="" runs the tests on the code
# that users run.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "d" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

try:
    from jax import enable_x64
except ImportError:  # before JAX 0.8
    from jax.experimental import enable_x64

STEPS = 250
# what JAX has traced fills the heap, and searching it for garbage at the usual rate takes minutes
gc.set_threshold(50_000, 20, 20)
# scripts, which need what the tests do not, or devices of their own
collect_ignore_glob = ["data/*", "benchmarks/*", "sharded_norm.py", "interrupted.py"]


class Problem(NamedTuple):
    """Gradient ``curvature ⊙ (θ − optimum) + noise_t`` in a tree of two leaves, and flat in NumPy."""

    theta: np.ndarray
    curvature: np.ndarray
    optimum: np.ndarray
    noise: np.ndarray

    def gradient(self, t, theta):
        return self.curvature * (theta - self.optimum) + self.noise[t - 1]

    def run(self, optimizer, *, steps=STEPS, dtype=None):
        """Every θ of `optimizer`, flattened; compiled, as users run it."""

        def step(carry, noise):
            params, state = carry
            gradients = jax.tree.map(
                lambda h, p, o, n: h * (p - o) + n, curvature, params, optimum, noise
            )
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        start, curvature, optimum = (
            self.tree(x, dtype) for x in (self.theta, self.curvature, self.optimum)
        )
        noises = jax.tree.map(
            lambda *rows: jnp.stack(rows), *(self.tree(n, dtype) for n in self.noise)
        )
        noises = jax.tree.map(lambda leaf: leaf[:steps], noises)
        carry = (start, jax.jit(optimizer.init)(start))
        _, path = jax.jit(lambda c: jax.lax.scan(step, c, noises))(carry)
        rows = np.concatenate(
            [path["kernel"].reshape(steps, -1), path["bias"].reshape(steps, -1)], axis=1
        )
        return np.concatenate([self.theta[None].astype(rows.dtype), rows])

    @staticmethod
    def tree(flat, dtype=None):
        flat = jnp.asarray(flat, dtype)
        return {"bias": flat[12:], "kernel": flat[:12].reshape(3, 4)}


@pytest.fixture(scope="session")
def problem():
    rng = np.random.default_rng(0)
    curvature = 10.0 ** rng.uniform(-2, 0, 16)
    return Problem(
        rng.normal(size=16), curvature, rng.normal(size=16), rng.normal(size=(STEPS, 16))
    )


@pytest.fixture
def x64():
    with enable_x64(True):
        yield
