"""``python tests/benchmarks/run.py [NAME ...]``: every figure beside a peer or a floor of the same run.

Each module of BENCHMARKS has ``measure() -> list[dict]`` with rows of `table.row`. Those that run replace their
rows in ``docs/benchmarks.json``. Needs the extra ``bench``.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import argparse
import importlib
import json
import platform
from importlib import metadata
from pathlib import Path

import rich
from rich.table import Table
from table import missed

from decoupled_wd.study.report.machine import processor

BENCHMARKS = ("tpu", "tracing", "eager", "state", "step", "record", "grid", "imports")
OUTPUT = Path(__file__).parents[2] / "docs" / "benchmarks.json"
PACKAGES = ("jax", "jaxlib", "libtpu", "optax", "torch", "decoupled-wd")


def main():
    """Measure, print one table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or {', '.join(BENCHMARKS)}")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    names = arguments.names or ["all"]
    names = BENCHMARKS if "all" in names else names
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no benchmark {sorted(unknown)}; there are all, {', '.join(BENCHMARKS)}")
    before = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    found = {name: importlib.import_module(name).measure() for name in names}
    rich.print(table([row for rows in found.values() for row in rows]))
    results = before.get("results", {}) | {
        name: {"machine": machine(), "rows": rows} for name, rows in found.items()
    }
    text = json.dumps({"results": results}, indent=1, allow_nan=False)
    arguments.output.write_text(text + "\n")


def machine():
    """What the figures depend on, and nothing that names the machine."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def table(rows):
    """One line a figure; what misses its target by more than 1 % stands out."""
    columns = ("benchmark", "case", "value", "unit", "against", "reference", "ratio", "target")
    result = Table(*columns)
    for row in rows:
        style = "bold red" if missed(row) else None
        cells = ("" if row[name] is None else str(row[name]) for name in columns)
        result.add_row(*cells, style=style)
    return result


if __name__ == "__main__":
    main()
