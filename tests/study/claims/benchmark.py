"""Landscapes whose truth is known, and the measures of coverage on them, from the folder of benchmarks."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"
# at the end, since a benchmark may be called like a package
sys.path.append(str(FOLDER))
import landscapes  # noqa: E402

# there is a package of the name, so it gets another
_spec = importlib.util.spec_from_file_location("study_coverage", FOLDER / "coverage.py")
coverage = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(coverage)

__all__ = ["coverage", "landscapes"]
