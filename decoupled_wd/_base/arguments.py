"""Numbers on the command line, as every command reads them."""

import argparse
import math
from collections.abc import Sequence


def number(text: str) -> float:
    """Parse a finite float."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text!r}")
    return value


def refuse_negatives(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """End the command where a number is negative, which argparse takes for an option."""
    for text in filter(_is_negative, arguments):
        parser.error(f"numbers must be finite and >= 0, got {text}")


def _is_negative(text: str) -> bool:
    try:
        return text.startswith("-") and not float(text) >= 0
    except ValueError:
        return False
