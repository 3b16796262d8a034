"""Ctrl-C at many moments of a sweep: ``python tests/interrupted.py 30``; the tests do it three times."""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SWEEP = """
import os, signal, sys, threading
import jax
import test_scale as t

delay, store, lowered = float(sys.argv[1]), sys.argv[2], []

def interrupt():
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()

def listen(event, seconds, **_):
    if event.endswith("jaxpr_to_mlir_module_duration"):
        lowered.append(event)
        if len(lowered) == 1:
            interrupt()

def progress(finished, cells):
    if not finished:
        # what is lowered next is the whole program, and then it is compiled
        jax.monitoring.register_event_duration_secs_listener(listen)

try:
    if sys.argv[3] == "start":
        interrupt()
    problem = t.problem(widths=(4, *[8] * 30, 3))
    t.run(store, progress=progress if sys.argv[3] == "compile" else lambda *_: None,
          memory=10**9, epochs=400, **problem)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

# it compiles what an earlier run has compiled
FRESH = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "0"}


def interrupt(delay, store, since="start", **environment):
    """Exit status and output of a sweep that gets SIGINT `delay` seconds after its start, or that of compiling."""
    tests = Path(__file__).parent
    paths = {"PYTHONPATH": os.pathsep.join([str(tests), str(tests / "study" / "grid"), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, str(delay), str(store), since],
        env=os.environ | paths | FRESH | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip(), done.stderr[-2000:]


if __name__ == "__main__":
    bad = 0
    for _ in range(int(sys.argv[1])):
        with tempfile.TemporaryDirectory() as folder:
            since = random.choice(["start", "compile"])
            delay = random.uniform(0, 6 if since == "start" else 0.5)
            status, out, err = interrupt(delay, Path(folder, "store"), since)
            fine = (status, out) == (0, "interrupted")
            bad += not fine
            print(
                json.dumps([since, round(delay, 2), status, out, "" if fine else err]), flush=True
            )
    print(bad, "bad")
    sys.exit(bool(bad))
