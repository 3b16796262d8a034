"""``decoupled-wd study``: every claim of the paper measured, with its verdict."""

import argparse
import errno
import math
import os
import re
import shlex
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import jax
import rich.console
import rich.progress
from rich.text import Text

from decoupled_wd.cli import ends_cleanly
from decoupled_wd.study.claims.verdicts import Finding
from decoupled_wd.study.grid.groups import check_groups, index
from decoupled_wd.study.grid.layout import lock_of, store_of
from decoupled_wd.study.grid.locks import locked
from decoupled_wd.study.looks import look
from decoupled_wd.study.own import check_tasks, profile_of, sizes_of, task_of, with_own
from decoupled_wd.study.profiles import CLAIMS, PROFILES, Experiment
from decoupled_wd.study.report.page import PAGES, duration, write
from decoupled_wd.study.report.terminal import verdicts_table
from decoupled_wd.study.tasks.data import FASHION_MNIST
from decoupled_wd.study.tasks.task import Run, runner


def main(arguments: Sequence[str]) -> None:
    """Reads the command's arguments, then runs the study."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.profile = profile_of(options.profile, options.data, options.network)
        experiments = _experiments(options.profile, options.claims)
        experiments = with_own(experiments, options.data, options.network)
        _writable(options.out)
        if options.distributed:
            _join()
        _use_all_cores()
        check_tasks(experiments)
    except ValueError as error:
        parser.error(str(error))
    farewell = (
        f"stopped; finished runs are kept in {options.out}, and the same command goes on from there"
    )
    alone = (
        locked(lock_of(options.out), f"--out {options.out}")
        if jax.process_index() == 0
        else nullcontext()
    )
    with ends_cleanly(parser.prog, farewell):
        try:
            with alone:
                study(options, experiments, shlex.join(["decoupled-wd", "study", *arguments]))
        except ValueError as error:
            sys.exit(f"{parser.prog}: {error}")


def study(options: argparse.Namespace, experiments: Sequence[Experiment], command: str) -> None:
    """Measures the claims, writes the report, and prints the verdicts."""
    started = time.perf_counter()
    console = _Console(quiet=jax.process_index() > 0)
    seconds = sum(experiment.seconds for experiment in experiments)
    cores = "on two x86-64 cores"
    if options.data or options.network:
        cores += " for Fashion-MNIST and the study's networks"
    console.print(
        f"{len(experiments)} experiments, about {duration(seconds)} {cores}", soft_wrap=True
    )
    if options.data:
        console.print(Text(sizes_of(experiments[0])), soft_wrap=True)
    root = store_of(options.out, options.profile)
    # a damaged tree is told now, and not after the training
    check_groups(root)
    with _progress(console, root, seconds) as (run, advance):

        def measure(experiment: Experiment, number: int) -> Finding:
            learned = task_of(experiment.dataset, experiment.network)
            finding = experiment.design.measure(run, learned, number)
            advance(experiment.seconds if number == 0 else 0.0)
            return finding

        findings = look(experiments, measure, seconds=60 * options.minutes)
    # the others have trained their share; one process writes
    if jax.process_index() > 0:
        return
    index(root)
    elapsed = time.perf_counter() - started
    claims = dict.fromkeys(experiment.claim for experiment in experiments)
    write(
        options.out,
        findings=findings,
        table=[record for _, finding in findings for record in finding.table],
        configuration={"profile": options.profile, "claims": ", ".join(claims)}
        | {name: own for name in ("data", "network") if (own := getattr(options, name))},
        command=command,
        seconds=elapsed,
    )
    console.print(verdicts_table(findings, console.width))
    if left_out := [e for e in experiments if not any(e is found for found, _ in findings)]:
        names = ", ".join(f"({e.claim}) {e.dataset}, {e.network}" for e in left_out)
        console.print(Text(f"not measured within --minutes {options.minutes:g}: {names}"))
    files = f"report.html, claims.json, claims.md, table.json, figures and {root.name}"
    console.print(Text(f"{files} in {options.out}, after {duration(elapsed)}"), soft_wrap=True)


class _Console(rich.console.Console):
    """A console that leaves a closed pipe to `ends_cleanly`."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="decoupled-wd study",
        description="Train small networks, judge the paper's claims by them, and write a report. "
        "A study that was stopped goes on where it was when the same command is given again.",
    )
    times = (f"{name} {duration(sum(e.seconds for e in plan))}" for name, plan in PROFILES.items())
    parser.add_argument(
        "--profile",
        choices=list(PROFILES),
        help=f"what to measure, in which time on two cores: {', '.join(times)}; by default images "
        "with --data or --network, and default without",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="measure the claims of the profile images on this: an .npz file with x_train, "
        "y_train, x_test and y_test, or a folder with the four .gz files of MNIST's format; by "
        f"default Fashion-MNIST in {FASHION_MNIST}",
    )
    parser.add_argument(
        "--network",
        help="with this network: mlp, resnet, or MODULE:FUNCTION, a function that takes the data "
        "set and returns a Model; by default mlp and resnet",
    )
    parser.add_argument(
        "--claims",
        type=_claims,
        default="all",
        help="which claims to measure, with commas between them, or all that the profile has "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=_minutes,
        default=math.inf,
        help="the time after which nothing new is begun, even if statements are undecided",
    )
    parser.add_argument(
        "--out",
        type=_folder,
        default="study-results",
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="share the training with other processes, found as by jax.distributed.initialize()",
    )
    return parser


def _claims(text: str) -> list[str]:
    claims = [] if text == "all" else text.split(",")
    unknown = [claim for claim in claims if claim not in CLAIMS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"must be some of {','.join(CLAIMS)}, got {unknown[0]!r}; all are those of the profile"
        )
    return claims


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not minutes > 0:
        raise argparse.ArgumentTypeError(f"must be a number of minutes > 0, got {text!r}")
    return minutes


def _experiments(profile: str, claims: Sequence[str]) -> list[Experiment]:
    """Lists the experiments of a profile on the given claims, or all.

    Raises ValueError for a claim that the profile does not measure.
    """
    measured = {name: [*dict.fromkeys(e.claim for e in plan)] for name, plan in PROFILES.items()}
    for claim in claims:
        if claim not in measured[profile]:
            others = [f"--profile {name}" for name in measured if claim in measured[name]]
            remedy = " or ".join(others) or f"one of {','.join(measured[profile])}"
            raise ValueError(
                f"--claims {claim}: the profile {profile} does not measure it; pass {remedy}"
            )
    return [each for each in PROFILES[profile] if not claims or each.claim in claims]


def _folder(text: str) -> Path:
    """Returns a path that can be made, printed and written down."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"got {text!r}, which names no folder; . is this one")
    if re.match(r"[A-Za-z][\w+.-]+:/", text):
        raise argparse.ArgumentTypeError(f"must be a folder of this machine, got the URL {text!r}")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise argparse.ArgumentTypeError(f"must be a name that can be printed, got {text!a}")
    return Path(text)


_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's control characters, surrogates (bytes that are not UTF-8), and ends of lines."""


def _writable(out: Path) -> None:
    """Raises ValueError now, rather than an error after the training."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
        for file in map(out.joinpath, PAGES):
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{file.name} is a folder")
    except OSError as error:
        raise ValueError(
            f"--out {out} is not a folder to write to ({error.strerror}); pass another"
        ) from error


def _join() -> None:
    """Finds the other processes, or raises ValueError."""
    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed found no other processes ({' '.join(str(error).split())}); start it "
            "under Slurm, "
            "MPI or Kubernetes, or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID"
        ) from error


def _use_all_cores() -> None:
    """Gives JAX a device for each core.

    XLA runs these small matrices on one core a device.
    """
    if not os.environ.get("XLA_FLAGS"):
        # a program that calls `main` may have its devices already
        with suppress(RuntimeError):
            cores = os.cpu_count() or 1
            jax.config.update("jax_num_cpu_devices", cores)  # type: ignore[no-untyped-call]


@contextmanager
def _progress(
    console: rich.console.Console, root: Path, seconds: float
) -> Iterator[tuple[Run, Callable[[float], None]]]:
    """Shows progress while a terminal looks on.

    It gives a `Run`, and a function that counts finished seconds.
    """
    # at least the name of what is trained and its percent must fit
    narrow = console.width < 80
    room = max(8, console.width - 16) if narrow else 44
    bar = () if narrow else (rich.progress.BarColumn(bar_width=20),)
    bars = rich.progress.Progress(
        rich.progress.TextColumn(f"{{task.description:<{room}.{room}}}", markup=False),
        *bar,
        rich.progress.TaskProgressColumn(show_speed=True),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
    )
    with bars:
        whole = bars.add_task("study", total=seconds)
        current = bars.add_task("", visible=False)

        def show(name: str, finished: int, cells: int) -> None:
            # a new name is another training: its clock starts anew
            if bars.tasks[current].description != name:
                bars.reset(current, description=name, visible=True)
            bars.update(current, completed=finished, total=cells)

        yield runner(root, show), lambda done: bars.advance(whole, done)
