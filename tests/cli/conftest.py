"""The command line against a server that each test scripts."""

from collections.abc import Callable, Sequence

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import cli

Handler = Callable[[httpx.Request], httpx.Response]
Muster = Callable[..., Result]


@pytest.fixture
def muster(monkeypatch: pytest.MonkeyPatch) -> Muster:
    """Runs a command; `answer` stands in for the server."""
    monkeypatch.delenv("MUSTER_URL", raising=False)

    def run(arguments: Sequence[object], answer: Handler | None = None, stdin: str | None = None) -> Result:
        transport = httpx.MockTransport(answer or unreachable)
        return CliRunner().invoke(cli, [str(each) for each in arguments], input=stdin, obj=transport)

    return run


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("Connection refused", request=request)


def problem(status: int, **members: object) -> httpx.Response:
    document = {"type": "urn:muster:problem:x", "status": status, "title": "Parameter error", "detail": "no", **members}
    return httpx.Response(status, json=document, headers={"Content-Type": "application/problem+json"})
