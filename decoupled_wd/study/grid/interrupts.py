"""Ctrl-C between two pieces of work and not inside one."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Lets Ctrl-C take effect after the block, not in its middle.

    JAX answers Ctrl-C during a compilation with KeyboardInterrupt while a thread of XLA still
    compiles: if the interpreter then ends, that thread uses what is freed, and the process dies of
    SIGSEGV. During a program it answers only when the program has ended, whose results would be
    lost.

    Outside the main thread, which alone receives signals, nothing is deferred.

    Examples:
      >>> with deferred():
      ...     finished = "a whole block"
      >>> finished
      'a whole block'
    """
    handler = signal.getsignal(signal.SIGINT)
    # SIG_DFL and SIG_IGN cannot be called afterwards
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    # the last signal is enough: more of them ask for the same
    received: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received:
            handler(*received[-1])
