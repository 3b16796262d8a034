"""``decoupled-wd tune``: the best hyperparameters of the user's model, in a time of the user's."""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.progress
from rich.text import Text

from decoupled_wd import PAPER
from decoupled_wd._base.arguments import number
from decoupled_wd.cli import ends_cleanly
from decoupled_wd.coupling import as_coupling
from decoupled_wd.study.arguments import folder_of, minutes_of
from decoupled_wd.study.claims.optimizers import CONTENDERS
from decoupled_wd.study.commands import Console, keep_compiled, use_all_cores, writable
from decoupled_wd.study.own import task_of
from decoupled_wd.study.report.best import BEST, at_an_end, write_best
from decoupled_wd.study.report.paste import has_l2
from decoupled_wd.study.report.pieces import duration
from decoupled_wd.study.report.tables import described
from decoupled_wd.study.report.tuned import PAGE
from decoupled_wd.study.report.tuned import write as write_report
from decoupled_wd.study.tune.modules import REPORTED, of_module, of_task
from decoupled_wd.study.tune.search import tune
from decoupled_wd.study.tune.sizes import TARGET, run_of, shapes_of, target_of
from decoupled_wd.study.tune.storages import without_password
from decoupled_wd.study.tune.trials import ended_in
from decoupled_wd.study.tune.types import Progress, Tuned

TRIALS = "trials.log"
"""The journal file of a search, in the folder of its results."""
NETWORK, OPTIMIZER = "mlp", "AdamW"
_TARGET = "target_"


def main(arguments: Sequence[str]) -> None:
    """Reads the command's arguments, then searches."""
    reader = _parser()
    options = reader.parse_args(arguments)
    options.storage = options.storage or str(options.out / TRIALS)
    farewell = (
        f"stopped; finished trials are kept in {without_password(options.storage)}, and the same "
        "command goes on from there"
    )
    # what a user's module prints may be read by nobody
    with ends_cleanly(reader.prog, farewell):
        try:
            writable(options.out, [BEST, PAGE])
            use_all_cores()
            keep_compiled()
            settings, target = _settings(options), _told(options)
            _check_report(options, settings, target)
        except (ValueError, TypeError) as error:
            reader.error(str(error))
        try:
            found = _searched(options, settings)
        except (ValueError, TypeError) as error:
            sys.exit(f"{reader.prog}: {error}")
        write_best(options.out, found)
        try:
            _report(options.out, found, settings, target, _made_by(options))
        # such as a pruner of the module's that let no trial come to its end
        except ValueError as error:
            sys.exit(f"{reader.prog}: {options.out / BEST} is written, and no {PAGE}: {error}")
        _print(options.out, found)


def _parser() -> argparse.ArgumentParser:
    reader = argparse.ArgumentParser(
        prog="decoupled-wd tune",
        description="Search for the best hyperparameters of a model within a time. A search that "
        "was stopped goes on with the trials it has when the same command is given again, and "
        "several at once share their trials.",
    )
    what = reader.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "module",
        nargs="?",
        type=Path,
        metavar="MODULE.py",
        help="a module that defines what study.tune takes: make_optimizer, space, init, loss, "
        "metric, train, epochs, batch_size",
    )
    what.add_argument(
        "--data",
        type=Path,
        help="an .npz file with x_train, y_train, x_test and y_test, learned by --network",
    )
    reader.add_argument(
        "--network", help=f"for --data: mlp, resnet, or MODULE:FUNCTION (default: {NETWORK})"
    )
    reader.add_argument(
        "--optimizer",
        choices=list(CONTENDERS),
        help=f"for --data; λ is the paper's, or L2's without a W (default: {OPTIMIZER})",
    )
    reader.add_argument(
        "--minutes", type=minutes_of, help="how long it may take (default: 10, without --runs)"
    )
    reader.add_argument(
        "--runs", type=float, default=math.inf, help="how many whole runs it may train"
    )
    reader.add_argument(
        "--out",
        type=folder_of,
        default=Path("tune-results"),
        help="folder for the results (default: %(default)s)",
    )
    reader.add_argument(
        "--storage",
        help="where the trials are kept: a journal file, or the URL of a database (default: "
        f"{TRIALS} in the folder of the results)",
    )
    target = reader.add_argument_group(
        "the run that the search is for",
        "With any of these the report plans its λ; what is left out is as in the search. Tokens "
        "and batch are counted as the search counts them, in rows of its training data.",
    )
    for name, words in TARGET.items():
        option = f"--target-{words.replace('_', '-')}"
        target.add_argument(option, dest=_TARGET + name, type=number, metavar="N")
    return reader


def _told(options: argparse.Namespace) -> dict[str, float]:
    """Returns what is told of the run that the search is for."""
    given = {name: getattr(options, _TARGET + name) for name in TARGET}
    return {name: value for name, value in given.items() if value is not None}


def _check_report(
    options: argparse.Namespace, settings: Mapping[str, Any], target: Mapping[str, float]
) -> None:
    """Says what is wrong with what the report is told before anything is trained."""
    if target:
        target_of(run_of(settings, 1.0), target)
        if has_l2(_made_by(options)):
            raise ValueError("--target-… plan a decay, not L2; pass --optimizer SGDW or AdamW")
        if isinstance(settings["space"], Mapping) and "learning_rate" not in settings["space"]:
            raise ValueError(
                "--target-… need a hyperparameter learning_rate, from which λ is planned; add it "
                "to the space, or leave them out"
            )
    if not settings.keys().isdisjoint(REPORTED):
        any_choice = {"learning_rate": 1e-3, "weight_decay": 1e-3}
        unit = as_coupling("coupling", settings.get("coupling", PAPER))
        described(any_choice, shapes_of(settings), settings.get("mask"), unit)


def _made_by(options: argparse.Namespace) -> str:
    """Names what makes the optimiser, for the code to paste."""
    if options.module is not None:
        return f"{options.module.stem}.make_optimizer"
    return f"dwd.{(options.optimizer or OPTIMIZER).lower()}"


def _report(
    out: Path,
    found: Tuned,
    settings: Mapping[str, Any],
    target: Mapping[str, float],
    made_by: str,
) -> None:
    """Writes the report, with a plan where the search chose a learning rate."""
    told = {name: settings[name] for name in REPORTED if name in settings}
    if rate := found.best.get("learning_rate"):
        told["run"] = run_of(settings, rate)
        told["target"] = target_of(told["run"], target)
    write_report(out, found, made_by=made_by, params=shapes_of(settings), **told)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    if options.module is not None:
        for name in ("network", "optimizer"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} is for --data, and a module has its own; leave it out")
        return of_module(options.module)
    # a command is not started from a module, so that its folder is not searched
    sys.path.insert(0, str(Path.cwd()))
    try:
        task = task_of(options.data, options.network or NETWORK)
        return of_task(task, options.optimizer or OPTIMIZER)
    except OSError as error:
        raise ValueError(f"--data {error.filename}: {error.strerror}; pass an .npz file") from error


def _searched(options: argparse.Namespace, settings: dict[str, Any]) -> Tuned:
    minutes = options.minutes or (10 if options.runs == math.inf else math.inf)
    with _progress(Console()) as show:
        return tune(
            **{name: value for name, value in settings.items() if name not in REPORTED},
            seconds=60 * minutes,
            runs=options.runs,
            storage=options.storage,
            progress=show,
        )


def _print(out: Path, found: Tuned) -> None:
    console, estimate = Console(), found.estimate
    choice = ", ".join(f"{name} {value:.4g}" for name, value in found.best.items())
    trials = len(ended_in(found.study))
    worth = (
        f"{found.metric} {estimate.value:.4g}, 95 % interval {estimate.low:.4g} to "
        f"{estimate.high:.4g} over {estimate.seeds} fresh seeds"
        if math.isfinite(estimate.value)
        else f"diverged with some of {estimate.seeds} fresh seeds; lower the upper end of its "
        "ranges, or give it more finalists"
    )
    lines = [
        f"{choice}: {worth}",
        *(f"the best {name} lies at an end of its range; widen it" for name in at_an_end(found)),
        f"{PAGE} and {BEST} in {out}, after {trials} trials and {duration(found.seconds)}",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Shows the trials, the best so far, and the time left, while a terminal looks on."""
    bars = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(bar_width=20),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
    )
    with bars:
        task = bars.add_task("compiling", total=1.0)

        def show(now: Progress) -> None:
            best = "" if math.isnan(now.best) else f", best {now.best:.4g}"
            bars.update(task, description=f"{now.trials} trials{best}", completed=now.spent)

        yield show
