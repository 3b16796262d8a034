"""The command ``decoupled-wd``: ``decoupled-wd study`` shows how learning rate and decay interact."""

import argparse
import json
import math
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import rich.box
import rich.console
import rich.progress
import rich.table
import xarray as xr

from decoupled_wd.study.claims import CONTENDERS, RECIPES, decoupling, table
from decoupled_wd.study.data import load
from decoupled_wd.study.plots import TITLES, heatmaps

VERSIONS = ("decoupled-wd", "jax", "jaxlib", "optax", "flax", "numpy")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _writable(options.out)
    except OSError as error:
        parser.error(
            f"--out {options.out} is not a folder to write to ({error.strerror}); pass another"
        )
    _use_all_cores()
    study(
        options, shlex.join(["decoupled-wd", *(sys.argv[1:] if arguments is None else arguments)])
    )


def study(options: argparse.Namespace, command: str) -> None:
    """Train the grids, print the table, and write table, figure and raw results into the folder."""
    started = time.perf_counter()
    recipe = RECIPES[options.dataset]
    epochs = vars(options).get("epochs", recipe.epochs)
    cells = options.grid**2 * options.seeds
    console = rich.console.Console()
    with _progress(console) as bars:
        tasks = {name: bars.add_task(TITLES[name], total=cells, start=False) for name in CONTENDERS}

        def advance(name: str, cells: int) -> None:
            bars.start_task(tasks[name])
            bars.advance(tasks[name], cells)

        results = decoupling(
            load(options.dataset),
            grid=options.grid,
            epochs=epochs,
            seeds=options.seeds,
            progress=advance,
        )
    results.attrs = {
        "title": "Test error over learning rate and weight decay",
        "source": "arXiv 1711.05101, Figure 2, on a small MLP with BatchNorm",
        "command": command,
        "dataset": options.dataset,
        "epochs": epochs,
        "batch_size": recipe.batch_size,
        "ridge_within_points": recipe.within,
        **{f"version_{name}": version(name) for name in VERSIONS},
    }
    records = table(results, within=recipe.within)
    _write(options.out, results, records)
    console.print(_rich_table(records, recipe.within))
    seconds = time.perf_counter() - started
    runs = len(CONTENDERS) * cells
    files = "heatmaps.png, table.json and results.nc"
    console.print(f"{runs} runs in {seconds:.0f} s; {files} in {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="decoupled-wd", description="Decoupled weight decay, measured."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    study = commands.add_parser(
        "study",
        help="train a grid of learning rates and weight decays and show how they interact",
        description="Train SGD+L2, SGDW, Adam+L2 and AdamW over a grid of learning rates and weight decays.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    epochs = ", ".join(f"{recipe.epochs} for {name}" for name, recipe in RECIPES.items())
    study.add_argument(
        "--dataset", choices=sorted(RECIPES), default="mnist1d", help="what to learn"
    )
    study.add_argument(
        "--grid", type=_at_least(2), default=11, help="learning rates, and weight decays"
    )
    study.add_argument(
        "--epochs",
        type=_at_least(1),
        default=argparse.SUPPRESS,
        help=f"passes over the training set (default: {epochs})",
    )
    study.add_argument(
        "--seeds", type=_at_least(1), default=4, help="runs for each cell of the grid"
    )
    study.add_argument(
        "--out", type=Path, default=Path("study-results"), help="folder for the results"
    )
    return parser


def _at_least(low: int) -> Any:
    def whole_number(text: str) -> int:
        if not text.isdigit() or int(text) < low:
            raise argparse.ArgumentTypeError(f"must be a whole number >= {low}, got {text!r}")
        return int(text)

    return whole_number


def _writable(out: Path) -> None:
    """OSError now rather than after the training."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass


def _use_all_cores() -> None:
    """A JAX device for each core: XLA runs these small matrices on one core a device."""
    if not os.environ.get("XLA_FLAGS"):
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)  # type: ignore[no-untyped-call]


def _progress(console: rich.console.Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description:<18}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("runs"),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
    )


def _write(out: Path, results: xr.DataTree, records: list[dict[str, Any]]) -> None:
    within = results.attrs["ridge_within_points"]
    results.to_netcdf(out / "results.nc", engine="netcdf4")
    heatmaps(results, within=within).savefig(out / "heatmaps.png")
    strict = [{k: None if v != v else v for k, v in record.items()} for record in records]
    (out / "table.json").write_text(json.dumps(strict, indent=2, allow_nan=False) + "\n")


def _rich_table(records: list[dict[str, Any]], within: float) -> rich.table.Table:
    shown = rich.table.Table(
        title="Learning rate α and weight decay λ",
        caption=f"slope: d log λ*/d log α over the α within {within:g} points of the best error",
        box=rich.box.SIMPLE_HEAD,
    )
    shown.add_column("optimizer", no_wrap=True)
    for heading in ("error %", "α*", "λ*", "slope", "95 % interval", "top-10 r"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in records:
        low, high = (_number(row[f"ridge_slope_{end}"], "+.2f") for end in ("low", "high"))
        shown.add_row(
            TITLES[row["optimizer"]].removesuffix(" (decoupled)"),
            _number(row["best_error"], ".2f"),
            _number(row["learning_rate"], ".3g"),
            _number(row["weight_decay"], ".3g"),
            _number(row["ridge_slope"], "+.2f"),
            f"{low} … {high}",
            _number(row["top10_correlation"], "+.2f"),
        )
    return shown


def _number(value: float, spec: str) -> str:
    return "–" if math.isnan(value) else format(value, spec).replace("-", "−")
