"""An 8 × 8 grid of an MLP with ``decoupled_wd.study.sweep``, beside one run after another and bare matmuls.

The loops train the same network on the same batches, with ``optax.adamw``; they are timed on a few cells, the grid
on all. Each process has one device a core, as the documentation of `sweep` advises; times are seconds of the clock.
"""

import functools
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from table import absent, row

import decoupled_wd as dwd
from decoupled_wd.study import sweep

WIDTHS = (64, 128, 128, 10)
BATCH, ROWS, EPOCHS = 64, 1280, 12  # 240 steps
STEPS = ROWS // BATCH * EPOCHS
SIDE = 8
CELLS = SIDE * SIDE
TIMED = {"compiled anew": 3, "one jit": 16, "torch": 4}  # cells of the loops
GROWTH = {16: (4, 4), 256: (16, 16), 4096: (64, 64)}
GROWTH_EPOCHS = 1
GROWTH_STEPS = ROWS // BATCH * GROWTH_EPOCHS
SLOWER = 1.1  # a cell of the largest grid, and its memory, against the smallest
DEVICES = (1, 8)  # the same cores, divided among so many, beside one a core


def measure():
    """Seconds a cell; each part in a process of its own."""
    found = isolated("compare")
    grown = {cells: isolated("grow", cells) for cells in GROWTH}
    spread = {n: isolated("grow", max(GROWTH), JAX_NUM_CPU_DEVICES=str(n)) for n in DEVICES}
    return [
        *_loops(found),
        *_growth(grown),
        *_spread(spread | {os.cpu_count(): grown[max(GROWTH)]}),
    ]


def _loops(found):
    case = f"sweep | {SIDE}x{SIDE}, {STEPS} steps"
    compiled = functools.partial(_row, f"{case}, with compiling", found["sweep"])
    warm = functools.partial(_row, f"{case}, warm", found["sweep warm"])
    once = found["one jit"] + found["compile"] / CELLS
    yield compiled(f"a jit for each cell ({TIMED['compiled anew']} timed)", found["anew"], 1 / 20)
    yield compiled(f"one jit ({TIMED['one jit']} cells timed)", once, 1 / 2)
    yield warm(f"one jit ({TIMED['one jit']} cells timed)", found["one jit"], 1 / 2)
    if "torch" in found:
        yield warm(f"torch, fused AdamW, one thread ({TIMED['torch']} timed)", found["torch"], None)
    else:
        yield absent("grid", f"{case}, warm", "torch")
    yield warm("its matmuls alone", found["matmuls"], 1 / 0.7)


def _growth(grown):
    first = min(grown)
    for cells, found in grown.items():
        case = f"{cells} cells, {GROWTH_STEPS} steps"
        yield from _figures(case, found, f"{first} cells", grown[first], SLOWER)


def _spread(spread):
    one = os.cpu_count()
    for devices, found in spread.items():
        case = f"{max(GROWTH)} cells, {GROWTH_STEPS} steps, {devices} devices"
        # with one device the other cores are idle between its loops
        target = SLOWER if devices > one else None
        yield from _figures(case, found, f"{one} devices, one a core", spread[one], target)


def _figures(case, found, against, reference, target):
    for figure, unit in (("warm", "ms/cell"), ("whole", "ms/cell"), ("memory", "MB")):
        figures = {"against": against, "reference": reference[figure], "target": target}
        yield row(f"grid {figure}", f"sweep | {case}", found[figure], unit, **figures)


def _row(case, value, against, reference, target):
    times = {"against": against, "reference": 1e3 * reference, "target": target}
    return row("grid", case, 1e3 * value, "ms/cell", **times)


def isolated(*arguments, **environment):
    """What a function of this module finds, in a process of its own."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(os.cpu_count())} | environment
    command = [sys.executable, __file__, *map(str, arguments)]
    ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ran.stdout)


def compare():
    """Seconds a cell of everything that trains the same grid."""
    whole, warm = _sweep(SIDE, SIDE, EPOCHS)
    anew = _timed(_cell_compiled_anew, TIMED["compiled anew"])
    one = jax.jit(_train)
    compile_ = _elapsed(lambda: one(1e-3, 1e-3)) - _elapsed(lambda: one(1e-3, 1e-3))
    found = {
        "sweep": whole / CELLS,
        "sweep warm": warm,
        "anew": anew,
        "one jit": _timed(one, TIMED["one jit"]),
        "compile": compile_,
        "matmuls": _matmuls(),
    }
    try:
        import torch  # here alone, since the others measure their memory
    except ImportError:
        return found
    torch.set_num_threads(1)  # more are slower for matrices this small
    train = functools.partial(_torch, torch)
    train(1e-3, 1e-3)  # its first run takes ten times as long
    return found | {"torch": _timed(train, TIMED["torch"])}


def grow(cells):
    """Milliseconds a cell after the first blocks and in all, and the peak of the process."""
    whole, warm = _sweep(*GROWTH[int(cells)], GROWTH_EPOCHS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"warm": 1e3 * warm, "whole": 1e3 * whole / int(cells), "memory": peak}


def loop():
    """Milliseconds of one cell after another, by one `jit`, in the steps of `grow`."""
    one = jax.jit(functools.partial(_train, epochs=GROWTH_EPOCHS))
    jax.block_until_ready(one(1e-3, 1e-3))  # compiles
    return {"loop": 1e3 * _timed(one, TIMED["one jit"])}


def _sweep(rates, decays, epochs):
    """Seconds in all, compiling included; seconds a cell after the first round of blocks."""
    seen = []
    start = time.perf_counter()
    sweep(
        lambda **axes: dwd.adamw(**axes, peak_learning_rate=axes["learning_rate"]),
        {
            "learning_rate": np.geomspace(1e-4, 1e-2, rates),
            "weight_decay": np.geomspace(1e-5, 1e-2, decays),
        },
        init=_init,
        loss=_loss,
        metric=lambda params, train, test: _loss(params, *test, None),
        train=_data(),
        test=_data(),
        epochs=epochs,
        batch_size=BATCH,
        seeds=1,
        progress=lambda finished, _: seen.append((finished, time.perf_counter())),
    )
    whole = time.perf_counter() - start
    rounds = seen[jax.device_count() :: jax.device_count()]  # one block on every device
    rates = [(t - before) / (n - m) for (m, before), (n, t) in itertools.pairwise(rounds)]
    return whole, statistics.median(rates)


@functools.cache
def _data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTHS[0])).astype(np.float32)
    return x, (x @ rng.normal(size=(WIDTHS[0], WIDTHS[-1]))).argmax(-1)


@functools.cache
def _batches():
    rng = np.random.default_rng(0)
    orders = [rng.permutation(ROWS) for _ in range(EPOCHS)]
    return np.concatenate(orders).reshape(STEPS, BATCH)


def _init(key):
    keys = jax.random.split(key, len(WIDTHS) - 1)
    return [
        (jax.random.normal(k, (i, o)) * (2 / i) ** 0.5, jnp.zeros(o))
        for k, (i, o) in zip(keys, itertools.pairwise(WIDTHS), strict=True)
    ]


def _loss(params, x, y, key):
    for kernel, bias in params[:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = params[-1]
    return optax.softmax_cross_entropy_with_integer_labels(x @ kernel + bias, y).mean()


def _train(learning_rate, weight_decay, epochs=EPOCHS):
    """One run with ``optax.adamw``, as a user would scan it; the last loss on all data."""
    optimizer = optax.adamw(learning_rate, weight_decay=weight_decay)
    x, y = map(jnp.asarray, _data())

    def step(carry, rows):
        params, state = carry
        gradients = jax.grad(_loss)(params, x[rows], y[rows], None)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    params = _init(jax.random.key(0))
    batches = _batches()[: epochs * ROWS // BATCH]
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return _loss(params, x, y, None)


def _cell_compiled_anew(learning_rate, weight_decay):
    return jax.jit(lambda: _train(learning_rate, weight_decay))()


def _torch(torch, learning_rate, weight_decay):
    """The same run in PyTorch, eagerly."""
    layers = [torch.nn.Linear(i, o) for i, o in itertools.pairwise(WIDTHS)]
    relus = [layer for linear in layers[:-1] for layer in (linear, torch.nn.ReLU())]
    model = torch.nn.Sequential(*relus, layers[-1])
    options = {"lr": learning_rate, "weight_decay": weight_decay, "fused": True}
    optimizer = torch.optim.AdamW(model.parameters(), **options)
    x, y = map(torch.as_tensor, _data())
    for rows in torch.as_tensor(_batches()):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return torch.nn.functional.cross_entropy(model(x), y).item()


def _matmuls():
    """Seconds a cell of the products of all steps, forward and backward: blocks of cells on every device."""
    devices = jax.device_count()
    cells = CELLS // 8 * devices  # at once: what `sweep` takes for a grid of this size
    mesh = jax.make_mesh((devices,), ("cell",))
    sharding = jax.NamedSharding(mesh, jax.P("cell"))
    keys = jax.random.split(jax.random.key(0), cells)
    kernels = jax.vmap(lambda key: [kernel for kernel, _ in _init(key)])(keys)
    x = jax.random.normal(jax.random.key(1), (cells, 8, BATCH, WIDTHS[0]))
    arguments = jax.device_put((kernels, x), sharding)
    products = jax.shard_map(
        jax.vmap(_products), mesh=mesh, in_specs=jax.P("cell"), out_specs=jax.P("cell")
    )
    run = jax.jit(products).lower(*arguments).compile()
    _, *times = [_elapsed(lambda: run(*arguments)) for _ in range(4)]
    return statistics.median(times) / cells


def _products(kernels, x):
    def step(_, count):
        # another batch in every step, and all products in the carry: none can be left out or moved out
        activations = [x[count % len(x)]]
        for kernel in kernels:
            activations.append(activations[-1] @ kernel)
        gradient, gradients = activations.pop(), []
        for kernel in reversed(kernels):
            gradients.insert(0, activations.pop().T @ gradient)
            gradient = gradient @ kernel.T if activations else gradient
        return gradients, None

    return jax.lax.scan(step, kernels, jnp.arange(STEPS))[0]


def _timed(train, cells):
    """Seconds a cell, each with a learning rate of its own."""
    rates = np.geomspace(1e-4, 1e-2, cells).tolist()
    return _elapsed(lambda: [jax.block_until_ready(train(rate, 1e-3)) for rate in rates]) / cells


def _elapsed(run):
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


if __name__ == "__main__":
    part = {"compare": compare, "grow": grow, "loop": loop}[sys.argv[1]]
    print(json.dumps(part(*sys.argv[2:])))
