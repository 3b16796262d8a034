"""The process of the command: signals, pipes, encodings, closed streams, and what is not installed."""

import io
import os
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from decoupled_wd import cli

CONVERT = ["convert", "0.1", "--from", "torch", "--learning-rate", "3e-4"]
PLAN = ["plan", "--learning-rate", "3e-4", "--batch-size", "64", "--dataset-size", "1e5"]
POINTS = {
    "convert": "decoupled_wd.cli:convert",
    "plan": "decoupled_wd.planning.cli:main",
    "study": "decoupled_wd.no_such_package.cli:main",
    "paint": "no_such_module:main",
    "stop": "test_command:stop",
    "fill": "test_command:fill",
}


def stop(arguments):
    raise KeyboardInterrupt


def fill(arguments):
    raise OSError(28, "No space left on device", "runs/λ.json")


@pytest.fixture(autouse=True)
def commands(monkeypatch):
    points = [EntryPoint(name, value, "decoupled_wd.commands") for name, value in POINTS.items()]
    monkeypatch.setattr(cli, "entry_points", lambda **_: points)


def on_stream(monkeypatch, raw, encoding):
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1", "koi8-r", "utf-8"])
def test_a_table_is_readable_in_every_encoding(encoding, monkeypatch):
    stream = on_stream(monkeypatch, io.BytesIO(), encoding)
    cli.main(CONVERT)
    printed = stream.buffer.getvalue().decode(encoding)
    theta = {"utf-8": "λ·η"}.get(encoding, "lambda")
    assert theta in printed
    assert "3e-05" in printed
    assert "?" not in printed
    assert "\\" not in printed


def test_what_cannot_be_spelled_is_escaped(monkeypatch):
    stream = on_stream(monkeypatch, io.BytesIO(), "ascii")
    with cli.ends_cleanly():
        print("√λ ≥ ∞ … é \udcff 日")
    assert stream.buffer.getvalue() == b"sqrtlambda >= inf ... \\xe9 \\udcff \\u65e5\n"


def test_help_is_printed_in_ascii(monkeypatch):
    stream = on_stream(monkeypatch, io.BytesIO(), "ascii")
    with pytest.raises(SystemExit, match="0"):
        cli.main(["convert", "--help"])
    assert b"lambda as the framework writes it" in stream.buffer.getvalue()


@pytest.mark.parametrize(
    "arguments", [CONVERT, PLAN, ["--help"], ["convert", "--help"], ["--version"]]
)
def test_a_pipe_that_nobody_reads_is_141_and_silent(arguments, monkeypatch, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    stream = on_stream(monkeypatch, os.fdopen(writer, "wb"), "utf-8")
    with pytest.raises(SystemExit, match="141"):
        cli.main(arguments)
    stream.close()
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_to_a_full_disk_is_one_line(monkeypatch):
    stream = on_stream(monkeypatch, open("/dev/full", "wb"), "utf-8")  # noqa: SIM115
    with pytest.raises(
        SystemExit, match=r"^decoupled-wd: standard output: No space left on device$"
    ):
        cli.main(CONVERT)
    stream.close()


def test_a_file_that_cannot_be_written_is_one_line():
    with pytest.raises(SystemExit, match=r"^decoupled-wd: runs/λ\.json: No space left on device$"):
        cli.main(["fill"])


def test_an_interrupt_is_one_line_and_130(capsys):
    with pytest.raises(SystemExit, match="130"):
        cli.main(["stop"])
    assert capsys.readouterr().err == "decoupled-wd: stopped\n"


def test_an_interrupt_says_the_command_s_own_words(capsys):
    with pytest.raises(SystemExit, match="130"), cli.ends_cleanly("train", "stopped; λ is kept"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "train: stopped; λ is kept\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["paint"],
            "paint needs no_such_module; install it with: pip install 'decoupled-wd[paint]'",
        ),
        # a module of ours is missing: no extra would bring it
        (["study"], "error: No module named 'decoupled_wd.no_such_package'"),
        (["decay"], "invalid choice: 'decay' (choose from"),
        ([], "required: command"),
        ([""], "invalid choice: ''"),
        (["--profile", "full", "study"], "required: command"),
    ],
)
def test_what_cannot_start_says_why(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert message in capsys.readouterr().err


START = "import decoupled_wd_command; decoupled_wd_command.main()"


def start(program, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


INTERRUPTED_IMPORT = f"""
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "jax":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
{START}
"""


def test_an_interrupt_while_jax_is_imported_is_one_line_and_130():
    done = start(INTERRUPTED_IMPORT, *CONVERT)
    assert (done.returncode, done.stderr) == (130, "decoupled-wd: stopped\n")


# the command is at the mercy of XLA, and an exception is at that of whoever catches it
ENDLESS = """
import os, signal, sys, threading
import jax
from decoupled_wd import cli

def endless(arguments):
    with cli.ends_cleanly("train", "stopped; \\u03bb is kept"):
        while True:
            try:
                loop = jax.jit(lambda: jax.lax.while_loop(lambda n: n >= 0, lambda n: n * 0, 0))
                threading.Timer(0.3, os.kill, (os.getpid(), int(sys.argv[1]))).start()
                loop().block_until_ready()
            except BaseException:
                pass

cli._run = endless
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_at_once_inside_of_xla(number):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "JAX_PLATFORMS": "cpu"}
    done = start(ENDLESS, str(int(number)), env=environment)
    assert done.returncode == 128 + number
    assert done.stderr == "train: stopped; lambda is kept\n"


IGNORED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from decoupled_wd import cli
cli._run = lambda arguments: os.kill(os.getpid(), signal.SIGINT)
cli.main()
"""


def test_a_signal_that_the_shell_ignores_is_ignored():
    done = start(IGNORED)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes streams")
def test_closed_streams_are_no_trouble():
    program = f"import os\n{START}"
    command = '"$0" -c "$1" --version >&- 2>&- <&-'
    done = subprocess.run(["/bin/sh", "-c", command, sys.executable, program], check=False)
    assert done.returncode == 0
