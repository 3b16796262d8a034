"""What ``decoupled-wd study`` is told on the command line."""

import argparse
import math
import re
import unicodedata
from pathlib import Path

from decoupled_wd.study.profiles import CLAIMS, PROFILES
from decoupled_wd.study.report.pieces import duration
from decoupled_wd.study.tasks.data import FASHION_MNIST


def parser() -> argparse.ArgumentParser:
    """Returns what reads the arguments; what it refuses it names."""
    reader = argparse.ArgumentParser(
        prog="decoupled-wd study",
        description="Train small networks, judge the paper's claims by them, and write a report. "
        "A study that was stopped goes on where it was when the same command is given again.",
    )
    times = (f"{name} {duration(sum(e.seconds for e in plan))}" for name, plan in PROFILES.items())
    reader.add_argument(
        "--profile",
        choices=list(PROFILES),
        help=f"what to measure, in which time on two cores: {', '.join(times)}; by default images "
        "with --data or --network, modern with --text, and default without",
    )
    reader.add_argument(
        "--data",
        type=Path,
        help="measure the claims of the profile images on this: an .npz file with x_train, "
        "y_train, x_test and y_test, or a folder with the four .gz files of MNIST's format; by "
        f"default Fashion-MNIST in {FASHION_MNIST}",
    )
    reader.add_argument(
        "--network",
        help="with this network: mlp, resnet, or MODULE:FUNCTION, a function that takes the data "
        "set and returns a Model; by default mlp and resnet",
    )
    reader.add_argument(
        "--text",
        type=Path,
        help="measure the claims of the profile modern about language on this, a file of UTF-8; "
        "by default the topics of Python's help",
    )
    reader.add_argument(
        "--claims",
        type=_claims,
        default="all",
        help="which claims to measure, with commas between them, or all that the profile has "
        "(default: %(default)s)",
    )
    reader.add_argument(
        "--minutes",
        type=minutes_of,
        default=math.inf,
        help="the time after which nothing new is begun, even if statements are undecided",
    )
    reader.add_argument(
        "--out",
        type=folder_of,
        default="study-results",
        help="folder for the results (default: %(default)s)",
    )
    reader.add_argument(
        "--distributed",
        action="store_true",
        help="share the training with other processes, found as by jax.distributed.initialize()",
    )
    return reader


def _claims(text: str) -> list[str]:
    claims = [] if text == "all" else text.split(",")
    unknown = [claim for claim in claims if claim not in CLAIMS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"must be some of {','.join(CLAIMS)}, got {unknown[0]!r}; all are those of the profile"
        )
    return claims


def minutes_of(text: str) -> float:
    """Returns a number of minutes > 0."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    # turned round, so that NaN is refused too
    if not minutes > 0:
        raise argparse.ArgumentTypeError(f"must be a number of minutes > 0, got {text!r}")
    return minutes


def folder_of(text: str) -> Path:
    """Returns a path that can be made, printed and written down."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"got {text!r}, which names no folder; . is this one")
    if re.match(r"[A-Za-z][\w+.-]+:/", text):
        raise argparse.ArgumentTypeError(f"must be a folder of this machine, got the URL {text!r}")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        # escaped, or the error could not be printed either
        raise argparse.ArgumentTypeError(f"must be a name that can be printed, got {text!a}")
    return Path(text)


_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's control characters, surrogates (bytes that are not UTF-8), and ends of lines."""
