"""Where the console script ``decoupled-wd`` starts.

Ctrl-C ends it cleanly before there is anything to import.

It is installed beside the package, as ``decoupled_wd_command``, since importing anything of
`decoupled_wd` imports JAX, which takes seconds.
"""

import os
import signal
from types import FrameType


def main() -> None:
    """Import the command and run it."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        # nohup and shells ignore signals for their children, and are obeyed
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, _leave)
    from decoupled_wd import cli

    cli.main()


def _leave(number: int, _: FrameType | None) -> None:
    """End at once, without an exception.

    The import of a compiled module would turn one into another.
    """
    os.write(2, b"decoupled-wd: stopped\n")
    os._exit(128 + number)
