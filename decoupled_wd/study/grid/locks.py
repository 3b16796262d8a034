"""One process at a time: a lock that says who holds it, and that ends with its process."""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    # beyond the text, which others must be able to read
    _FAR = 2**30

    def take(file: int) -> None:
        """Locks an open file, or raises BlockingIOError or PermissionError."""
        os.lseek(file, _FAR, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
else:
    import fcntl

    def take(file: int) -> None:
        """Locks an open file, or raises BlockingIOError or PermissionError."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(file: Path, what: str) -> Iterator[None]:
    """Holds `file` as a lock while the block runs.

    The file is made if it is not there, and is empty once it is free.

    The operating system drops the lock with the process that holds it, also after ``kill -9``:
    what is left is a file that locks nothing.

    Args:
      file: in a folder that exists.
      what: what the lock guards, for the message.

    Raises:
      BlockingIOError: another process holds it; the message names its command and its id.
      OSError: the file cannot be made.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder, ".lock"), "the folder"):
      ...     print(Path(folder, ".lock").read_text().split()[1] == str(os.getpid()))
      True
    """
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            take(handle)
        except (BlockingIOError, PermissionError) as error:
            raise BlockingIOError(
                error.errno,
                f"{what} is in use by {_holder(handle)}; wait until it has ended, end it, or pass "
                "another folder",
                str(file.parent),
            ) from None
        # a full disk cannot name the holder, but the lock holds
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.write(handle, _me())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _me() -> bytes:
    command = " ".join(shlex.join(sys.orig_argv).split())[:100]
    return f"process {os.getpid()} ({command})".encode(errors="replace")


def _holder(handle: int) -> str:
    text = os.read(handle, 1000).decode(errors="replace")
    return text or "another process"
