"""``decoupled-wd study``: every claim of the paper measured, with its verdict."""

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import jax
import rich.box
import rich.console
import rich.progress
import rich.table

from decoupled_wd.study.groups import check_groups, index
from decoupled_wd.study.locks import locked
from decoupled_wd.study.profiles import CLAIMS, PROFILES, Experiment
from decoupled_wd.study.report import duration, interval, write
from decoupled_wd.study.tasks import Run, runner, task
from decoupled_wd.study.verdicts import FAILS, HOLDS, MISSING, UNDECIDED, Finding

STYLES = {HOLDS: "green", FAILS: "red", UNDECIDED: "yellow", MISSING: "dim"}


def main(arguments: Sequence[str]) -> None:
    """The command's arguments, then the study."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _writable(options.out)
    except OSError as error:
        parser.error(
            f"--out {options.out} is not a folder to write to ({error.strerror}); pass another"
        )
    if options.distributed:
        jax.distributed.initialize()
    _use_all_cores()
    alone = (
        locked(options.out / ".lock", f"--out {options.out}")
        if jax.process_index() == 0
        else nullcontext()
    )
    try:
        with alone:
            study(options, shlex.join(["decoupled-wd", "study", *arguments]))
    except (OSError, ValueError) as error:
        sys.exit(f"decoupled-wd study: {error}")


def study(options: argparse.Namespace, command: str) -> None:
    """Measure the claims, print their verdicts, and write the report into the folder."""
    started = time.perf_counter()
    console = rich.console.Console(quiet=jax.process_index() > 0)
    experiments = [e for e in PROFILES[options.profile] if e.claim in options.claims]
    seconds = sum(experiment.seconds for experiment in experiments)
    console.print(f"{len(experiments)} experiments, about {duration(seconds)} on two x86-64 cores")
    root = options.out / f"{options.profile}.zarr"
    check_groups(root)
    load = cache(task)
    findings = []
    with _progress(console, root, seconds) as (run, advance):
        for experiment in experiments:
            learned = load(experiment.dataset, experiment.network)
            findings.append((experiment, experiment.measure(run, learned)))
            advance(experiment.seconds)
    if jax.process_index() > 0:
        return
    index(root)
    elapsed = time.perf_counter() - started
    write(
        options.out,
        findings=findings,
        table=[record for _, finding in findings for record in finding.table],
        configuration={"profile": options.profile, "claims": ", ".join(options.claims)},
        command=command,
        seconds=elapsed,
    )
    console.print(_verdicts(findings))
    files = f"report.html, claims.json, claims.md, table.json, figures and {root.name}"
    console.print(f"{files} in {options.out}, after {duration(elapsed)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="decoupled-wd study",
        description="Train small networks, judge the paper's claims by them, and write a report. "
        "A study that was stopped goes on where it was when the same command is given again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    times = (f"{name} {duration(sum(e.seconds for e in plan))}" for name, plan in PROFILES.items())
    parser.add_argument(
        "--profile",
        choices=list(PROFILES),
        default="default",
        help=f"how much to measure, on two cores: {', '.join(times)}",
    )
    parser.add_argument(
        "--claims",
        type=_claims,
        default=",".join(CLAIMS),
        help="which claims to measure, with commas between them",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("study-results"), help="folder for the results"
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="share the training with other processes, found as by jax.distributed.initialize()",
    )
    return parser


def _claims(text: str) -> list[str]:
    claims = text.split(",")
    unknown = [claim for claim in claims if claim not in CLAIMS]
    if unknown:
        raise argparse.ArgumentTypeError(f"must be some of {','.join(CLAIMS)}, got {unknown[0]!r}")
    return claims


def _writable(out: Path) -> None:
    """OSError now rather than after the training."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass


def _use_all_cores() -> None:
    """A JAX device for each core: XLA runs these small matrices on one core a device."""
    if not os.environ.get("XLA_FLAGS"):
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)  # type: ignore[no-untyped-call]


@contextmanager
def _progress(
    console: rich.console.Console, root: Path, seconds: float
) -> Iterator[tuple[Run, Callable[[float], None]]]:
    """A `Run` and a function that counts finished seconds, both shown while a terminal looks on."""
    bars = rich.progress.Progress(
        rich.progress.TextColumn("{task.description:<44}"),
        rich.progress.BarColumn(bar_width=20),
        rich.progress.TaskProgressColumn(show_speed=True),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
    )
    with bars:
        whole = bars.add_task("study", total=seconds)
        current = bars.add_task("", visible=False)

        def show(name: str, finished: int, cells: int) -> None:
            if bars.tasks[current].description != name:
                bars.reset(current, description=name, visible=True)
            bars.update(current, completed=finished, total=cells)

        yield runner(root, show), lambda done: bars.advance(whole, done)


def _verdicts(findings: list[tuple[Experiment, Finding]]) -> rich.table.Table:
    shown = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, caption="95 % intervals, bootstrapped over seeds"
    )
    shown.add_column("claim")
    for heading in ("measured", "expected"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for experiment, finding in findings:
        for line in finding.verdicts:
            value, low, high = interval(line.estimate)
            shown.add_row(
                f"({experiment.claim}) {line.statement} [dim]({line.where})",
                f"{value} [{low}, {high}]",
                line.expected,
                f"[{STYLES[line.verdict]}]{line.verdict}",
            )
        shown.add_section()
    return shown
