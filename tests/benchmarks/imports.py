"""What ``import decoupled_wd`` costs once ``import optax`` is done, in processes that do nothing else."""

import os
import statistics
import subprocess
import sys

from table import row

PROCESSES = 15
ALLOWED = 15  # milliseconds
PROGRAM = """
import gc, time
import optax
{before}
start = time.perf_counter()
import decoupled_wd
print(1e3 * (time.perf_counter() - start))
"""
# optax leaves the garbage collector on the brink of a pass over all of JAX's objects: whatever comes next has it
BEFORE = {"over optax": "gc.collect(); gc.disable()", "with the pass that optax left due": ""}


def measure():
    """The medians; from bytecode, as an installed package is imported."""
    return [
        row(
            "import",
            case,
            statistics.median([_milliseconds(before) for _ in range(1 + PROCESSES)][1:]),
            "ms",
            against=f"{ALLOWED} ms",
            reference=ALLOWED,
            target=1.0 if before else None,
        )
        for case, before in BEFORE.items()
    ]


def _milliseconds(before):
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", PROGRAM.format(before=before)]
    ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(ran.stdout)
