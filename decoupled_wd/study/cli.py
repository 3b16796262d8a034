"""``decoupled-wd study``: every claim of the paper measured, with its verdict."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
import rich.console
import rich.progress
from rich.text import Text

from decoupled_wd.cli import ends_cleanly
from decoupled_wd.study.arguments import parser
from decoupled_wd.study.claims.verdicts import Finding
from decoupled_wd.study.commands import Console, keep_compiled, use_all_cores, writable
from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.grid.groups import check_groups, fingerprint, index
from decoupled_wd.study.grid.layout import lock_of, store_of
from decoupled_wd.study.grid.locks import locked
from decoupled_wd.study.looks import look
from decoupled_wd.study.own import check_tasks, profile_of, sizes_of, task_of, with_own
from decoupled_wd.study.profiles import PROFILES
from decoupled_wd.study.report.page import PAGES, write
from decoupled_wd.study.report.pieces import duration
from decoupled_wd.study.report.terminal import verdicts_table
from decoupled_wd.study.tasks.task import Run, runner


def main(arguments: Sequence[str]) -> None:
    """Reads the command's arguments, then runs the study."""
    reader = parser()
    options = reader.parse_args(arguments)
    try:
        options.profile = profile_of(options.profile, options.data, options.network, options.text)
        experiments = _experiments(options.profile, options.claims)
        experiments = with_own(experiments, options.data, options.network, options.text)
        writable(options.out, PAGES)
        # in this order: an array, as a check may make it, settles processes and devices
        if options.distributed:
            _join()
        use_all_cores()
        keep_compiled()
        check_tasks(experiments)
    except ValueError as error:
        reader.error(str(error))
    farewell = (
        f"stopped; finished runs are kept in {options.out}, and the same command goes on from there"
    )
    # of several processes in one folder the first holds the lock for all
    alone = (
        locked(lock_of(options.out), f"--out {options.out}")
        if jax.process_index() == 0
        else nullcontext()
    )
    with ends_cleanly(reader.prog, farewell):
        try:
            with alone:
                study(options, experiments, shlex.join(["decoupled-wd", "study", *arguments]))
        except ValueError as error:
            sys.exit(f"{reader.prog}: {error}")


def study(options: argparse.Namespace, experiments: Sequence[Experiment], command: str) -> None:
    """Measures the claims, writes the report, and prints the verdicts."""
    started = time.perf_counter()
    console = Console(quiet=jax.process_index() > 0)
    seconds = sum(experiment.seconds for experiment in experiments)
    cores = "on two x86-64 cores"
    if options.data or options.network:
        cores += " for Fashion-MNIST and the study's networks"
    console.print(
        f"{len(experiments)} experiments, about {duration(seconds)} {cores}, and longer for what "
        "is not decided at once",
        soft_wrap=True,
    )
    if options.data or options.text:
        console.print(Text(sizes_of(experiments[0])), soft_wrap=True)
    root = store_of(options.out, options.profile)
    # a damaged tree is told now, and not after the training
    check_groups(root)
    with _progress(console, root, seconds) as (run, advance):

        def measure(experiment: Experiment, number: int) -> Finding:
            learned = task_of(experiment.dataset, experiment.network)
            finding = experiment.design.measure(run, learned, number)
            # the bar counts each experiment once, however often it is looked at
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
        configuration={
            "profile": options.profile,
            "claims": ", ".join(claims),
            "fingerprint of all runs": fingerprint(root),
        }
        | {name: own for name in ("data", "network", "text") if (own := getattr(options, name))},
        command=command,
        seconds=elapsed,
    )
    console.print(verdicts_table(findings, console.width))
    if left_out := [e for e in experiments if not any(e is found for found, _ in findings)]:
        names = ", ".join(f"({e.claim}) {e.dataset}, {e.network}" for e in left_out)
        console.print(Text(f"not measured within --minutes {options.minutes:g}: {names}"))
    files = f"report.html, claims.json, claims.md, table.json, figures and {root.name}"
    console.print(Text(f"{files} in {options.out}, after {duration(elapsed)}"), soft_wrap=True)


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
