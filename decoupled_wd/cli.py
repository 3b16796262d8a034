"""The console script ``decoupled-wd``, which hands over to a command, and the command ``convert``.

Each command is an entry point of the group ``decoupled_wd.commands``: a function of the
arguments behind its name. Only the one in use is imported, so that ``convert`` needs nothing beside
JAX and optax.
"""

import argparse
import codecs
import io
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points, version
from typing import Any

from decoupled_wd._base.arguments import number, refuse_negatives
from decoupled_wd.coupling import FRAMEWORKS
from decoupled_wd.diagnostics.equivalents import equivalents

_SPELLED = "decoupled_wd.spelled"
_SPELLINGS = str.maketrans(
    {
        **dict(zip("αβηθλ√", ("alpha", "beta", "eta", "theta", "lambda", "sqrt"), strict=True)),
        **dict(zip("−–·×≈≥≤", ("-", "-", "*", "x", "~", ">=", "<="), strict=True)),
        **dict(zip("∞±…²Δ✓✗", ("inf", "+-", "...", "^2", "Delta", "+", "x"), strict=True)),
    }
)
_farewells = ["decoupled-wd: stopped"]
"""What is printed on Ctrl-C; the last is of the innermost `ends_cleanly`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, by default with the arguments of the process.

    The process then belongs to the command.

    Raises:
      SystemExit: the arguments are wrong (2), or as `ends_cleanly` says.
    """
    if arguments is None:
        _open_closed_streams()
        _end_on_signals()
        arguments = sys.argv[1:]
    # whatever stops the command, its user sees at most one line
    with ends_cleanly():
        _run(list(arguments))


def _run(arguments: list[str]) -> None:
    commands = {point.name: point for point in entry_points(group="decoupled_wd.commands")}
    parser = argparse.ArgumentParser(
        prog="decoupled-wd", description="Decoupled weight decay, measured."
    )
    parser.add_argument("--version", action="version", version=version("decoupled-wd"))
    parser.add_argument("command", choices=sorted(commands), help="its own --help says more")
    name = parser.parse_args(arguments[:1]).command
    try:
        # only the command in use is imported: the study takes seconds
        run = commands[name].load()
    except ModuleNotFoundError as error:
        parser.error(_missing(name, error))
    run(arguments[1:])


def _missing(command: str, error: ModuleNotFoundError) -> str:
    """Say what to install: each command has an extra of its name."""
    # a module of our own that is missing is a defect, and no extra installs it
    if error.name is None or error.name.startswith("decoupled_wd"):
        return str(error)
    return f"{command} needs {error.name}; install it with: pip install 'decoupled-wd[{command}]'"


@contextmanager
def ends_cleanly(command: str = "decoupled-wd", farewell: str = "stopped") -> Iterator[None]:
    """Let a command print on any stream, and end in one line.

    Characters that standard output and error cannot encode are spelled out, λ as lambda.

    Args:
      command: whose name stands before what is printed.
      farewell: what is printed on Ctrl-C: what is kept, and how to go on.

    Raises:
      SystemExit: 130 on Ctrl-C, 141 where nobody reads the output any more, 1 with a line where it,
        or a file, cannot be written.

    Examples:
      >>> with ends_cleanly():
      ...     print("λ")
      λ
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # the stream keeps its encoding: only what it cannot hold is spelled out
            stream.reconfigure(errors=_SPELLED)
    _farewells.append(f"{command}: {farewell}")
    try:
        try:
            yield
        finally:
            # now, while an error can still be told: Python would flush after the last
            # handler
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        print(_farewells[-1], file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except BrokenPipeError:
        _discard_output()
        # SIGPIPE is 13, and not every system has it
        raise SystemExit(128 + 13) from None
    except OSError as error:
        _discard_output()
        where = error.filename or "standard output"
        sys.exit(f"{command}: {f'{where}: {error.strerror}' if error.strerror else error}")
    finally:
        _farewells.pop()


def convert(arguments: Sequence[str]) -> None:
    """Print the table of `equivalents` for the arguments of the command.

    They are such as ``["0.1", "--from", "torch", "--learning-rate", "3e-4"]``.
    """
    parser = argparse.ArgumentParser(
        prog="decoupled-wd convert",
        description="Show the same decay in the units of every framework, "
        "and as timescale and half-life.",
    )
    of_run: dict[str, Any] = {"type": number, "metavar": "N"}
    parser.add_argument("weight_decay", type=number, help="λ as the framework writes it")
    frameworks = ", ".join(sorted(FRAMEWORKS))
    parser.add_argument(
        "--from", dest="from_", required=True, metavar="FRAMEWORK", help=f"one of {frameworks}"
    )
    parser.add_argument("--learning-rate", required=True, **of_run, help="the peak of the run")
    parser.add_argument("--steps", **of_run, help="optimiser steps in the run")
    parser.add_argument("--batch-size", **of_run, help="examples in a batch")
    parser.add_argument("--dataset-size", **of_run, help="training examples")
    parser.add_argument("--epochs", **of_run, help="passes over the training examples")
    refuse_negatives(parser, arguments)
    options = vars(parser.parse_args(arguments))
    try:
        print(equivalents(options.pop("weight_decay"), **options))
    except ValueError as error:
        parser.error(str(error))


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """Spell Greek letters and signs in ASCII, and escape whatever else."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # a character that has no spelling becomes its escape, as \u1234
    text = error.object[error.start : error.end].translate(_SPELLINGS)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(_SPELLED, _spell)


def _discard_output() -> None:
    """Discard what is left in the buffers, which has nowhere to go.

    Python would complain of it at its end.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _open_closed_streams() -> None:
    """Open the closed streams on nothing.

    A file opened later would take the number of a closed stream, and get what is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _end_on_signals() -> None:
    """Let Ctrl-C and SIGTERM end the process at once, wherever it is.

    Every file of the package is replaced whole, so that it may end anywhere. An exception instead
    would wait for XLA, may be lost in a callback, and leaves XLA's threads to an interpreter that
    shuts down.
    """
    reader, writer = socket.socketpair()
    # a signal handler must not wait for a full pipe
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for ending in (signal.SIGINT, signal.SIGTERM):
        # nohup and shells ignore signals for their children, and are obeyed
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, lambda *_: None)
    threading.Thread(target=_end, args=(reader, writer), daemon=True).start()


def _end(reader: socket.socket, _: socket.socket) -> None:
    number = 0
    while number not in (signal.SIGINT, signal.SIGTERM):
        # Python writes the number of each signal that arrives
        number = reader.recv(1)[0]
    try:
        # the cursor, which a progress bar hides, on a line of its own
        restored = "\x1b[?25h\n" if os.isatty(2) else ""
        encoding = sys.__stderr__.encoding if sys.__stderr__ else "ascii"
        os.write(2, f"{restored}{_farewells[-1]}\n".encode(encoding, _SPELLED))
    finally:
        os._exit(128 + number)
