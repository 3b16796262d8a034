"""The command ``decoupled-wd plan``."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from decoupled_wd._base.arguments import number, refuse_negatives
from decoupled_wd.coupling import FRAMEWORKS
from decoupled_wd.planning._plan import plan
from decoupled_wd.planning._run import SHAPES, Run

_NUMBERS = {
    "learning_rate": "α, the peak of the run",
    "batch_size": "b, training points or tokens in a step",
    "dataset_size": "B, training points or tokens in an epoch",
    "epochs": "T, passes over them",
    "weight_decay": "λ in the unit of --coupling",
    "parameters": "N, weights of the model",
    "width": "d, of its hidden layers",
    "depth": "L, its hidden layers",
}
_REQUIRED = ("learning_rate", "batch_size", "dataset_size")
_REFERENCE = "reference_"


def main(arguments: Sequence[str]) -> None:
    """Print the table of `plan` for the arguments of the command.

    They are such as ``["--learning-rate", "6e-4", "--batch-size", "64", "--dataset-size", "1e6"]``.
    """
    parser = _parser()
    refuse_negatives(parser, arguments)
    options = vars(parser.parse_args(arguments))
    as_json = options.pop("json")
    told = {name: value for name, value in options.items() if value is not None}
    of_reference = {
        name.removeprefix(_REFERENCE): told.pop(name)
        for name in [*told]
        if name.startswith(_REFERENCE)
    }
    try:
        run = Run(**told)
        # all but its λ may be as in the run
        smaller = replace(run, weight_decay=None, schedule=None)
        reference = replace(smaller, **of_reference) if of_reference else None
        made = plan(run, reference)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    print(made.to_json() if as_json else made)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="decoupled-wd plan",
        description="Show the weight decay of a run by every published rule, side by side, and "
        "what would come of it.",
    )
    of_run: dict[str, Any] = {"type": number, "metavar": "N"}
    for name, words in _NUMBERS.items():
        parser.add_argument(_option(name), **of_run, required=name in _REQUIRED, help=words)
    coupling: dict[str, Any] = {"metavar": "FRAMEWORK"}
    parser.add_argument(
        "--coupling", **coupling, help=f"unit of λ (default: paper); one of {', '.join(FRAMEWORKS)}"
    )
    parser.add_argument(
        "--schedule", choices=[*SHAPES], help="of the learning rate (default: constant)"
    )
    reference = parser.add_argument_group(
        "a smaller run whose λ is known to be good",
        "Its --reference-weight-decay, and what differs from the run; all else is the run's.",
    )
    for name, words in _NUMBERS.items():
        reference.add_argument(_option(_REFERENCE + name), **of_run, help=words)
    reference.add_argument("--reference-coupling", **coupling, help="unit of its λ")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    return parser


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
