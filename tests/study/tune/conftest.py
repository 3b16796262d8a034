"""Lets tests of processes import what the processes run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = ["tune_worker.py"]
