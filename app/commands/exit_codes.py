"""How a command ends: its exit code, and what is said when it could not do its work."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from app.commands.screen import error_console, printable


class ExitCode(IntEnum):
    DONE = 0
    REFUSED = 1
    FAILED = 2
    INTERRUPTED = 130
    """128 + SIGINT, as a shell reports it."""


class CommandFailed(Exception):
    """The command could not do its work.

    The message says why, and where possible what to do about it; `document` is the server's answer, where that was it.
    """

    def __init__(self, message: str, document: str | None = None) -> None:
        super().__init__(message)
        self.document = document


@contextmanager
def reporting_failures(*, as_json: bool = False) -> Iterator[None]:
    """Turns a failure into a message on standard error and an exit code.

    With `as_json` a problem that the server answered goes to standard output, as it came.
    """
    try:
        yield
    except CommandFailed as failure:
        if as_json and failure.document is not None:
            typer.echo(failure.document)
        _complain(str(failure))
        raise typer.Exit(ExitCode.FAILED) from None
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        raise typer.Exit(ExitCode.FAILED) from None
    except KeyboardInterrupt:
        _complain("interrupted")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _complain(message: str) -> None:
    error_console().print(printable(f"muster: {message}", keep_lines=True), style="red", soft_wrap=True)
