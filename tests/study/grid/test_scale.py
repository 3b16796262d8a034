"""Blocks fit the memory; devices, processes and kills change no bit of the results."""

import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from interrupted import interrupt
from test_store import content

from decoupled_wd.study import sweep
from decoupled_wd.study.grid import cells
from decoupled_wd.study.grid.blocks import block_shape, blocks, cells_at_once
from decoupled_wd.study.grid.cells import starts_of
from decoupled_wd.study.grid.interrupts import deferred
from decoupled_wd.study.grid.sweep import _cell

BLOCKS = 44


def problem(rows=60, widths=(4, 8, 3)):
    """An MLP and its data."""
    x = np.random.default_rng(0).normal(size=(rows, widths[0])).astype(np.float32)
    y = np.arange(rows) % widths[-1]

    def init(key):
        keys = jax.random.split(key, len(widths) - 1)
        pairs = zip(keys, widths[:-1], widths[1:], strict=True)
        return [jax.random.normal(key, (i, o)) / math.sqrt(i) for key, i, o in pairs]

    def logits(params, x):
        for kernel in params[:-1]:
            x = jax.nn.relu(x @ kernel)
        return x @ params[-1]

    def loss(params, x, y, key):
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()

    def metric(params, train, test):
        return loss(params, *test, None)

    return {"init": init, "loss": loss, "metric": metric, "train": (x, y), "test": (x, y)}


def adamw(rate, decay):
    return optax.adamw(rate, weight_decay=decay)


def run(store=None, **options):
    """44 blocks of at most three cells, half of them cut off at the edge of the grid."""
    settings = {"epochs": 40, "evaluate_every": 20, "batch_size": 6, "seeds": 5, "memory": 250_000}
    grid = {"rate": np.linspace(0.01, 0.5, 11), "decay": [0.0, 0.1]}
    return sweep(adamw, grid, store=store, **(problem() | settings | options))


def lowered(case, batch_size, optimizer=adamw, cells=None):
    """The lowered program of one run, or of several at once."""
    rows = len(case["train"][0])
    cell = _cell(optimizer, ("rate", "decay"), case["loss"], case["metric"], 2)
    starts = starts_of(case["init"], np.arange(1), rows=rows, epochs=4, batch_size=batch_size)
    data = jax.tree.map(jnp.asarray, (case["train"], case["test"]))
    if cells is None:
        return jax.jit(cell).lower(jnp.zeros(3), starts, data)
    many = jax.vmap(cell, in_axes=(0, None, None))
    return jax.jit(many).lower(jnp.zeros((cells, 3)), starts, data)


def temporaries(*case, cells):
    return lowered(*case, cells=cells).compile().memory_analysis().temp_size_in_bytes


CASES = {
    "study": (problem(1000, (40, 64, 64, 10)), 125, adamw),
    "wide": (problem(200, (784, 256, 10)), 32, adamw),
    "small": (problem(), 6, adamw),
    "whole batch": (problem(500, (40, 64, 10)), 500, lambda rate, decay: optax.sgd(rate)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_memory_of_a_run_is_estimated_from_above_and_not_by_far(case):
    used = temporaries(*case, cells=16) / 16
    estimate = lowered(*case).cost_analysis()["bytes accessed"]
    assert used <= estimate <= 30 * used


def test_blocks_fit_the_memory_however_many_cells_there_are():
    case = CASES["small"]
    one = lowered(*case)
    for memory in (5 * 10**5, 10**7):
        sizes = [cells_at_once(one, cells, memory) for cells in (16, 512, 10**6)]
        assert sizes[0] == 2 < sizes[1] == sizes[2] <= 16
        assert temporaries(*case, cells=sizes[-1]) <= memory


def test_less_memory_makes_smaller_blocks():
    one = lowered(*CASES["small"])
    sizes = [cells_at_once(one, 512, 2**power) for power in range(10, 31)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 16)


@pytest.mark.parametrize("shape", [(11, 10, 4), (7,), (1, 1, 1), (3, 17), (2, 3, 5, 4)])
@pytest.mark.parametrize("cells", [1, 2, 7, 16, 1000])
def test_blocks_cover_the_grid_once(shape, cells):
    block = block_shape(shape, cells)
    assert math.prod(block) <= cells
    counts = np.zeros(shape, int)
    for where in blocks(shape, block):
        counts[where] += 1
    assert (counts == 1).all()


def python(program, *arguments, **environment):
    """A Python process; it compiles what an earlier one has not."""
    paths = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | paths | {"JAX_PLATFORMS": "cpu"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process, timeout=300):
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The environment in which a program is compiled once."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    }


@pytest.fixture(scope="module")
def one(tmp_path_factory, cache):
    """The store of one process with one device."""
    path = tmp_path_factory.mktemp("one") / "store"
    output(python("import sys, test_scale as t; t.run(sys.argv[1])", path, **cache))
    return content(path)


def test_eight_devices_give_the_bits_of_one(one, tmp_path):
    program = "import jax, sys, test_scale as t; t.run(sys.argv[1]); print(jax.device_count())"
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    assert output(python(program, tmp_path, **flags)).split()[-1] == "8"
    assert content(tmp_path) == one


AGAIN = """
import jax, numpy as np, test_scale as t
from decoupled_wd.study.grid.sweep import sweep
from decoupled_wd.study.grid.types import Points
compiled = []
jax.monitoring.register_event_listener(lambda event, **_: compiled.append(event.endswith("cache_misses")))
t.run(None)
before = sum(compiled)
t.run(None, seeds=[7, 8])
few = Points(rate=[0.1, 0.2, 0.3], decay=[0.0, 0.1, 0.2], seed=[11, 12, 13])
sweep(t.adamw, few, **t.problem(), epochs=40, evaluate_every=20, batch_size=6)
print(before, sum(compiled) - before)
"""


def test_what_differs_in_cells_and_seeds_alone_is_compiled_once(cache, tmp_path):
    """A pilot, what is trained along its ridge, and seeds that another look adds."""
    first, then = output(
        python(AGAIN, **cache | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)})
    ).split()
    assert int(first) > 2
    assert int(then) == 0


@pytest.mark.parametrize("rows", [1, 40, 3000])
def test_an_order_is_a_permutation_of_jax(rows):
    """Of few rows it sorts once, and of many twice."""
    seed, epochs, batch_size = 7, 3, 1
    _, orders, _ = starts_of(
        problem()["init"], np.array([seed]), rows=rows, epochs=epochs, batch_size=batch_size
    )
    _, key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3)
    expected = [jax.random.permutation(each, rows) for each in jax.random.split(key, epochs)]
    np.testing.assert_array_equal(orders[0], np.concatenate(expected)[:, None])


def test_large_orders_are_not_kept(monkeypatch):
    """They would hold their memory for as long as the process lives."""
    case = {"rows": 60, "epochs": 3, "batch_size": 6}
    draw = partial(starts_of, problem()["init"], np.array([3, 5, 5]), **case)
    kept = draw()
    monkeypatch.setattr(cells, "KEPT_MEMORY", 0)
    before = cells._kept_orders.cache_info()
    again = draw()
    assert cells._kept_orders.cache_info() == before
    np.testing.assert_array_equal(again[1], kept[1])
    np.testing.assert_array_equal(kept[1][1], kept[1][2])


TWO = """
import sys, jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]), initialization_timeout=60)
import test_scale as t
reports = []
result = t.run(sys.argv[3], progress=lambda *report: reports.append(report))
assert reports == sorted(reports) and reports[-1] == (110, 110), reports
assert bool(result.metric.notnull().all())
print(len(reports) - 2)
"""


@pytest.mark.slow
def test_two_processes_give_the_store_of_one(one, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    processes = [python(TWO, address, index, tmp_path, **flags) for index in range(2)]
    trained = [int(output(process).split()[-1]) for process in processes]
    assert content(tmp_path) == one
    assert trained == [BLOCKS / 2, BLOCKS / 2]


KILLS = """
# forked before JAX starts: each run is a process of its own, without the seconds of its imports
import json, os, random, signal, sys, time
from pathlib import Path
import test_scale as t

def files(path):
    return [file for file in path.rglob("*") if file.suffix != ".partial" and file.is_file()]

def finished(path):
    return [file for file in files(path / "checksum") if file.name[0] != "."]

def attempt(path, moment, delay):
    # blocks of three and two seeds in turn
    cells, killed = sum(3 - int(file.name[-1]) for file in finished(path)), False
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        t.run(path, progress=lambda *report: os.write(writing, (json.dumps(report) + ";").encode()))
        os._exit(0)
    os.close(writing)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if not killed and len(files(path)) >= moment:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            killed = True
        time.sleep(1e-4)
    reports = [json.loads(report) for report in os.read(reading, 10**5).decode().split(";")[:-1]]
    return {"cells": cells, "reports": reports, "status": ended[1]}

folder, random = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
for index in range(2):
    path = folder / str(index)
    # first while the store is made
    print(json.dumps(attempt(path, random.randint(1, 15), 0)))
    for _ in range(20):
        moment = len(files(path)) + random.randint(10, 35)
        print(json.dumps(attempt(path, moment, random.uniform(0, 5e-3))))
        if len(finished(path)) == t.BLOCKS:
            break
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_no_finished_block(one, cache, tmp_path):
    seed = random.randrange(10**6)
    folder = tmp_path / "stores"
    lines = output(python(KILLS, folder, seed, **cache), 300).splitlines()
    attempts = [json.loads(line) for line in lines]
    assert sum(attempt["status"] == signal.SIGKILL for attempt in attempts) >= 4, seed
    for attempt in attempts:
        if attempt["reports"]:  # else killed before it read the store
            assert attempt["reports"][0] == [attempt["cells"], 110]
    for index in range(2):
        # who was killed with the lock in its hand has left its name there, and nobody minds
        assert content(folder / str(index)) | {"checksum/.lock": b""} == one, seed


@pytest.mark.slow
@pytest.mark.parametrize(("since", "delay"), [("start", 1), ("compile", 0.1), ("compile", 0.2)])
def test_ctrl_c_ends_a_sweep_cleanly(tmp_path, since, delay):
    """Also while it compiles: XLA's threads would outlive what they use of the interpreter, and crash it."""
    assert interrupt(delay, tmp_path / "store", since) == (0, "interrupted", "")


def test_ctrl_c_keeps_the_blocks_under_way(tmp_path):
    reports = []

    def progress(*report):
        reports.append(report)
        if len(reports) == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=progress)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = []
    run(tmp_path, progress=lambda *report: again.append(report))
    assert again[0] == reports[-1]
    assert len(reports) == 1 + jax.local_device_count()


def test_ctrl_c_goes_to_the_handler_that_was_there(tmp_path):
    seen = []
    before = signal.signal(signal.SIGINT, lambda *arguments: seen.append(arguments))
    try:
        with deferred():
            signal.raise_signal(signal.SIGINT)
            assert not seen
        assert len(seen) == 1
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with deferred():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
