"""The command ``decoupled-wd convert``: a weight decay in the units of every framework."""

import argparse
from collections.abc import Sequence
from typing import Any

from decoupled_wd.coupling import FRAMEWORKS
from decoupled_wd.equivalents import equivalents


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of `equivalents` for ``["0.1", "--from", "torch", "--learning-rate", "3e-4"]``."""
    parser = argparse.ArgumentParser(
        prog="decoupled-wd convert",
        description="Show the same decay in the units of every framework, and as timescale and half-life.",
    )
    number: dict[str, Any] = {"type": float, "metavar": "N"}
    parser.add_argument("weight_decay", type=float, help="λ as the framework writes it")
    parser.add_argument("--from", dest="from_", required=True, choices=sorted(FRAMEWORKS))
    parser.add_argument("--learning-rate", required=True, **number, help="the peak of the run")
    parser.add_argument("--steps", **number, help="optimiser steps in the run")
    parser.add_argument("--batch-size", **number, help="examples in a batch")
    parser.add_argument("--dataset-size", **number, help="training examples")
    parser.add_argument("--epochs", **number, help="passes over the training examples")
    options = vars(parser.parse_args(arguments))
    try:
        print(equivalents(options.pop("weight_decay"), **options))
    except ValueError as error:
        parser.error(str(error))
