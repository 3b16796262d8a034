"""What ``import decoupled_wd`` costs over ``import optax``: processor time of processes that do nothing else."""

import resource
import statistics
import subprocess
import sys

from table import row

PAIRS = 15
ALLOWED = 50  # milliseconds


def measure():
    """The median difference of pairs, against what is allowed."""
    differences = []
    for i in range(PAIRS):
        order = ("optax", "decoupled_wd") if i % 2 else ("decoupled_wd", "optax")
        times = {module: _milliseconds(module) for module in order}
        differences.append(times["decoupled_wd"] - times["optax"])
    over, against = statistics.median(differences), "50 ms"
    return [row("import", "over optax", over, "ms", against=against, reference=ALLOWED, target=1.0)]


def _milliseconds(module):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
