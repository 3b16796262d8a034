"""The command ``decoupled-wd convert``: a weight decay in the units of every framework."""

import argparse
import math
from collections.abc import Sequence
from typing import Any

from decoupled_wd.coupling import FRAMEWORKS
from decoupled_wd.equivalents import equivalents


def main(arguments: Sequence[str]) -> None:
    """Print the table of `equivalents` for ``["0.1", "--from", "torch", "--learning-rate", "3e-4"]``."""
    parser = argparse.ArgumentParser(
        prog="decoupled-wd convert",
        description="Show the same decay in the units of every framework, and as timescale and half-life.",
    )
    number: dict[str, Any] = {"type": _number, "metavar": "N"}
    parser.add_argument("weight_decay", type=_number, help="λ as the framework writes it")
    frameworks = ", ".join(sorted(FRAMEWORKS))
    parser.add_argument(
        "--from", dest="from_", required=True, metavar="FRAMEWORK", help=f"one of {frameworks}"
    )
    parser.add_argument("--learning-rate", required=True, **number, help="the peak of the run")
    parser.add_argument("--steps", **number, help="optimiser steps in the run")
    parser.add_argument("--batch-size", **number, help="examples in a batch")
    parser.add_argument("--dataset-size", **number, help="training examples")
    parser.add_argument("--epochs", **number, help="passes over the training examples")
    for text in filter(_is_negative, arguments):
        # argparse takes -1e-3 for an option
        parser.error(f"numbers must be finite and >= 0, got {text}")
    options = vars(parser.parse_args(arguments))
    try:
        print(equivalents(options.pop("weight_decay"), **options))
    except ValueError as error:
        parser.error(str(error))


def _number(text: str) -> float:
    """A float, if it is one that can be reckoned with."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text!r}")
    return number


def _is_negative(text: str) -> bool:
    try:
        return text.startswith("-") and not float(text) >= 0
    except ValueError:
        return False
