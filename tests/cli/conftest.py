"""The command line: against a server that each test scripts, or on a database of its own."""

import logging
import os
from collections.abc import Callable, Sequence

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import cli

Handler = Callable[[httpx.Request], httpx.Response]
Muster = Callable[..., Result]
Run = Callable[..., Result]


@pytest.fixture
def muster(monkeypatch: pytest.MonkeyPatch) -> Muster:
    """Runs a command; `answer` stands in for the server."""
    for name in ("MUSTER_URL", "MUSTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(arguments: Sequence[object], answer: Handler | None = None, stdin: str | None = None) -> Result:
        transport = httpx.MockTransport(answer or unreachable)
        return CliRunner().invoke(cli, [str(each) for each in arguments], input=stdin, obj=transport)

    return run


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("Connection refused", request=request)


def problem(status: int, **members: object) -> httpx.Response:
    document = {"type": "urn:muster:problem:x", "status": status, "title": "Parameter error", "detail": "no", **members}
    return httpx.Response(status, json=document, headers={"Content-Type": "application/problem+json"})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command with just these settings."""
    # A command sends the log to the standard error that it finds, which here is gone when it ends.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def invoke(*arguments: str, stdin: str | None = None, **settings: object) -> Result:
        for name in [name for name in os.environ if name.startswith("MUSTER_")]:
            monkeypatch.delenv(name)
        for name, value in settings.items():
            monkeypatch.setenv(f"MUSTER_{name.upper()}", str(value))
        return CliRunner().invoke(cli, arguments, input=stdin)

    return invoke
