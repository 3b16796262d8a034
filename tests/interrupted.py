"""Ctrl-C at many moments of a sweep: ``python tests/interrupted.py 30``; the tests do it three times."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SWEEP = """
import os, signal, sys, threading
import test_study_scale as t

delay, store = float(sys.argv[1]), sys.argv[2]
threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    t.run(store, epochs=4000, memory=10**9)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def interrupt(delay, store, **environment):
    """Exit status and output of a sweep that gets SIGINT `delay` seconds after its start."""
    paths = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, str(delay), str(store)],
        env=os.environ | paths | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip(), done.stderr[-2000:]


if __name__ == "__main__":
    bad = 0
    for _ in range(int(sys.argv[1])):
        with tempfile.TemporaryDirectory() as folder:
            delay = random.uniform(0, 4)
            status, out, err = interrupt(delay, Path(folder, "store"))
            fine = (status, out) in ((0, "interrupted"), (-signal.SIGINT, ""))
            bad += not fine
            print(json.dumps([round(delay, 2), status, out, "" if fine else err]), flush=True)
    print(bad, "bad")
    sys.exit(bool(bad))
