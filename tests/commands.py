"""Commands that are called with wrong arguments, for the tables of wrong calls."""

import contextlib
import io


def refused(main, *arguments):
    """ValueError with what a command prints when it ends with a usage error."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        try:
            main(list(arguments))
        except SystemExit as ended:
            if ended.code == 2:
                raise ValueError(printed.getvalue()) from None
    raise AssertionError(f"{arguments} is accepted")
