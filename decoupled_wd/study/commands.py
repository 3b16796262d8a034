"""What the commands of the study share: a folder to write to, all cores, and a console."""

import errno
import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import jax
import platformdirs
import rich.console

from decoupled_wd.study.report.machine import processor


class Console(rich.console.Console):
    """Leaves a closed pipe to `ends_cleanly`."""

    def on_broken_pipe(self) -> None:
        """Raises the error of a write, where rich would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def writable(out: Path, files: Iterable[str]) -> None:
    """Makes the folder, and sees that the files can be written there.

    A study asks before hours of training, and not after them.

    Raises:
      ValueError: they cannot.

    Examples:
      >>> writable(Path("/dev/null/x"), [])
      Traceback (most recent call last):
      ValueError: --out /dev/null/x is not a folder to write to (Not a directory); pass another
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # a file is made, since mode bits say nothing of a read-only file system
        with tempfile.TemporaryFile(dir=out):
            pass
        for file in map(out.joinpath, files):
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{file.name} is a folder")
    except OSError as error:
        raise ValueError(
            f"--out {out} is not a folder to write to ({error.strerror}); pass another"
        ) from error


def use_all_cores() -> None:
    """Gives JAX a device for each core.

    XLA runs these small matrices on one core a device.
    """
    # flags of the user's may ask for another number of devices
    if not os.environ.get("XLA_FLAGS"):
        # a program that calls a command's `main` may have its devices already
        with suppress(RuntimeError):
            cores = os.cpu_count() or 1
            jax.config.update("jax_num_cpu_devices", cores)  # type: ignore[no-untyped-call]


def keep_compiled() -> None:
    """Lets JAX keep what it compiles among the user's caches, for the next start of a command.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder, and ``JAX_ENABLE_COMPILATION_CACHE=0``
    keeps nothing.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        # a home may be shared by machines that cannot run each other's programs
        folder = platformdirs.user_cache_path("decoupled-wd") / re.sub(r"\W+", "-", processor())
        # where nothing can be kept, all is compiled as before
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            jax.config.update(  # type: ignore[no-untyped-call]
                "jax_compilation_cache_dir", str(folder)
            )
    least = "jax_persistent_cache_min_compile_time_secs"
    # a study has many small programs, and asks for each several times
    if least.upper() not in os.environ:
        jax.config.update(least, 0)  # type: ignore[no-untyped-call]
