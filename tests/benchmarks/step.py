"""One step on CPU: beside optax, torch's fused AdamW, and the time that its memory traffic takes alone.

Contenders take turns, A B, B A, A B, ..., each turn from arrays of its own. Of two programs of a thousand kernels
the one compiled first is about 20 % faster, even against itself: so half of the pairs are compiled in the other
order. The ratio is the geometric mean over both orders of the median ratio of the pairs. Weights and state are
donated. The floor is a triad in place, ``a ← a + s·b``, that moves as many bytes as a step of Adam in float32.
"""

import functools
import itertools
import math
import statistics
import time

import jax
import jax.numpy as jnp
import optax
from table import absent, row
from variants import ALIASES, PEER, step_of

import decoupled_wd as dwd

try:
    import torch
except ImportError:
    torch = None

PAIRS = 10  # in each order
SAMPLE = 0.03  # seconds at least between two looks at the clock
ADAM, TRIAD = 28, 12  # bytes moved for each weight: gradient in; weight, mu and nu in and out
SGD_PEER, L2_PEER = "optax.sgd, L2", "optax.adam, L2"
TORCH_PEER = "torch AdamW fused"
PEERS = {
    PEER: optax.adamw(1e-3, weight_decay=1e-4),
    SGD_PEER: optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(1e-3, momentum=0.9)),
    L2_PEER: optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-3)),
}
CASES = [  # name, optimiser, peer, target
    ("adamw", ALIASES["adamw"].optimizer, PEER, 1.0),
    ("adam", ALIASES["adam"].optimizer, PEER, 1.0),
    ("adam", ALIASES["adam"].optimizer, L2_PEER, 1.0),
    ("adamwr", ALIASES["adamwr"].optimizer, PEER, 1.0),
    ("sgdw", ALIASES["sgdw"].optimizer, SGD_PEER, 1.0),
    ("decouple(optax.adam)", dwd.decouple(optax.adam(1e-3), 1e-4), PEER, 1.05),
    (f"{PEER} itself", PEERS[PEER], PEER, None),
]


def _transformer(layers, width, vocabulary, context):
    """Shapes of a decoder in GPT-2's form."""
    layer = {
        "qkv": (width, 3 * width),
        "out": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    layer |= {f"{name}_bias": shape[1:] for name, shape in layer.items()}
    layer |= {f"norm{i}_{name}": (width,) for i in (1, 2) for name in ("scale", "bias")}
    ends = {"embedding": (vocabulary, width), "position": (context, width), "norm": (width,)}
    return ends | {f"layer{i:02}": layer for i in range(layers)}


TREES = {
    "one leaf of 2^25": {"w": (2**25,)},
    "1000 small leaves": {f"w{i:03}": (16, 8 * (1 + i % 8)) for i in range(1000)},
    "transformer, 12 layers": _transformer(12, 384, 8192, 512),
}


def measure():
    """Every alias against its peer; `adamw` beside torch and beside the floor."""
    return list(itertools.chain.from_iterable(itertools.starmap(_tree, TREES.items())))


def _tree(name, shapes):
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = structure.unflatten(jax.random.split(jax.random.key(0), len(leaves)))
    params = jax.tree.map(lambda key, shape: jax.random.normal(key, shape), keys, shapes)
    gradients = jax.tree.map(lambda leaf: 1e-2 * leaf, params)

    def stepping(optimizer):
        return functools.partial(jax_step, optimizer, params, gradients)

    for case, optimizer, peer, target in CASES:
        yield _compare(f"{case} | {name}", stepping(optimizer), stepping(PEERS[peer]), peer, target)
    adamw, case = stepping(ALIASES["adamw"].optimizer), f"adamw | {name}"
    yield (
        _compare(case, adamw, functools.partial(torch_step, params), TORCH_PEER)
        if torch
        else absent("step", case, TORCH_PEER)
    )
    yield _compare(case, adamw, functools.partial(triad_step, params), "triad of the same bytes")


def _compare(case, make, make_peer, against, target=None):
    """Milliseconds a step: medians, and the ratio over both orders of compilation."""
    forward = pairs_of(make, make_peer)
    backward = [pair[::-1] for pair in pairs_of(make_peer, make)]
    medians = [statistics.median(a / b for a, b in pairs) for pairs in (forward, backward)]
    value, reference = (1e3 * statistics.median(t) for t in zip(*forward, *backward, strict=True))
    ratio = statistics.geometric_mean(medians)
    figures = {"against": against, "reference": reference, "ratio": ratio, "target": target}
    return row("step", case, value, "ms", **figures)


def pairs_of(*makes):
    """Seconds a step of two contenders, in turn; the first is compiled first."""
    jax.clear_caches()
    contenders = [make() for make in makes]
    steps = [max(_steps(contender) for _ in range(2)) for contender in contenders]
    pairs = []
    for i in range(PAIRS):
        order = (0, 1) if i % 2 else (1, 0)
        times = {j: _seconds(contenders[j], steps[j]) for j in order}
        pairs.append((times[0], times[1]))
    return pairs


def _steps(contender):
    return math.ceil(SAMPLE / _seconds(contender, 1))


def _seconds(contender, steps):
    run = contender()
    run(1)
    start = time.perf_counter()
    run(steps)
    return (time.perf_counter() - start) / steps


def jax_step(optimizer, params, gradients):
    step = jax.jit(step_of(optimizer), donate_argnums=(0, 1))
    init = jax.jit(lambda params: (jax.tree.map(jnp.copy, params), optimizer.init(params)))

    def contender():
        held = init(params)

        def run(steps):
            nonlocal held
            for _ in range(steps):
                held = step(*held, gradients)
            jax.block_until_ready(held)

        return run

    contender()(1)  # compiles
    return contender


def triad_step(params):
    """In place, as Adam's arrays are: an array that is only written would cost a read too."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params)) * ADAM // TRIAD
    triad = jax.jit(lambda a, b: a + 1e-3 * b, donate_argnums=0)
    b = jnp.ones(size)

    def contender():
        a = jnp.ones(size)

        def run(steps):
            nonlocal a
            for _ in range(steps):
                a = triad(a, b)
            jax.block_until_ready(a)

        return run

    return contender


def torch_step(params, *, device="cpu", flat=False):
    """Torch's fused AdamW, on the leaves or on one flat array of them, as apex had it."""
    weights = [torch.randn(leaf.shape, device=device) for leaf in jax.tree.leaves(params)]
    if flat:
        weights = [torch.cat([weight.flatten() for weight in weights])]
    weights = [torch.nn.Parameter(weight) for weight in weights]
    for weight in weights:
        weight.grad = 1e-2 * weight.detach()
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1e-4, fused=True)

    def run(steps):
        for _ in range(steps):
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return lambda: run
