"""The console script ``decoupled-wd``: hands over to the command that is asked for.

Each command is an entry point of the group ``decoupled_wd.commands``: a function of the
arguments behind its name. Only the one in use is imported, so that ``convert`` needs nothing beside JAX and optax.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    commands = {point.name: point for point in entry_points(group="decoupled_wd.commands")}
    parser = argparse.ArgumentParser(
        prog="decoupled-wd", description="Decoupled weight decay, measured."
    )
    parser.add_argument("--version", action="version", version=version("decoupled-wd"))
    parser.add_argument("command", choices=sorted(commands), help="its own --help says more")
    try:
        run = commands[parser.parse_args(arguments[:1]).command].load()
    except ModuleNotFoundError as error:
        parser.error(str(error))
    run(arguments[1:])
