"""What ``import decoupled_wd`` costs once ``import optax`` is done, in processes that do nothing else."""

import os
import statistics
import subprocess
import sys

from table import row

PROCESSES = 15
ALLOWED = 50  # milliseconds
PROGRAM = """
import time
import optax
start = time.perf_counter()
import decoupled_wd
print(1e3 * (time.perf_counter() - start))
"""


def measure():
    """The median, against what is allowed; from bytecode, as an installed package is imported."""
    _, *times = [_milliseconds() for _ in range(1 + PROCESSES)]
    over, against = statistics.median(times), f"{ALLOWED} ms"
    return [row("import", "over optax", over, "ms", against=against, reference=ALLOWED)]


def _milliseconds():
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(ran.stdout)
