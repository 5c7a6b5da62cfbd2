"""A running server, as the commands see it: requests in, answers or failures that a person can act on out."""

import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import httpx
import typer
from pydantic import BaseModel, ValidationError

from app.commands.api_key import KEY_VARIABLE, chosen_key
from app.commands.exit_codes import CommandFailed
from app.commands.screen import error_console

Answer = TypeVar("Answer", bound=BaseModel)
JsonBody = Mapping[str, "str | int | bool | list[int] | None"]
Parameters = Sequence[tuple[str, "str | int"]]

CONNECT_SECONDS = 10.0
# A large import is judged and written before its report begins, and so is a slice of hard deletions.
READ_SECONDS = 30 * 60.0
WRITE_SECONDS = 5 * 60.0
# For answers that take no work; three of the keep-alives that the server puts into a stream of events.
SHORT_READ_SECONDS = 60.0
SILENCE_SECONDS = 45.0
MAY_BE_DONE = "; what was asked may be done all the same, and running the command again is safe"
SHOWN_CHARACTERS_OF_FOREIGN_ANSWER = 200
# Limits are by the minute; who is told to wait for much longer should decide that themselves.
MAX_WAIT_SECONDS = 120
MAX_WAITS = 10
# A server that restarts, or is not to be had for a while, and what proxies say of one.
AWAY_STATUSES = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
EVENT_STREAM = "text/event-stream"

UrlOption = Annotated[str, typer.Option("--url", metavar="URL", envvar="MUSTER_URL", help="The server to talk to.")]
DEFAULT_URL = "http://127.0.0.1:8000"


class InputProblem(BaseModel):
    """One of a problem's `errors`: which value was not accepted, and why."""

    pointer: str | None = None
    column: str | None = None
    line: int | None = None
    code: str = ""
    message: str = ""

    def __str__(self) -> str:
        line = f"line {self.line}" if self.line is not None else None
        place = ", ".join(part for part in (line, self.column or self.pointer) if part)
        return f"{place}: {self.message}" if place else self.message


class Problem(BaseModel):
    """An answer that is not a success (RFC 9457, with the service's own members)."""

    title: str
    status: int
    detail: str = ""
    request_id: str | None = None
    errors: list[InputProblem] = []


# What can be done about it from here.
_hints: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: f"Give a valid API key by {KEY_VARIABLE} or --api-key-file. To make one, sign in on the "
    "server's documentation page (/docs) and send POST /api/v1/api-keys there.",
    HTTPStatus.FORBIDDEN: "A key may do what its scopes name and its owner's roles allow; GET /api/v1/auth/me tells "
    "what that is, and an administrator can change the roles.",
}


class ServerAway(CommandFailed):
    """There is no answer, or one that says so; the same request may be answered later."""


class ServerRefused(CommandFailed):
    """The server answered with a problem; `document` is its JSON as it came."""

    document: str

    def __init__(self, problem: Problem, document: str) -> None:
        self.problem = problem
        lines = [f"{problem.title} ({problem.status}): {problem.detail}", *(f"  {each}" for each in problem.errors)]
        if problem.request_id:
            lines.append(f"  request id: {problem.request_id}")
        if problem.status in _hints:
            lines.append(f"  {_hints[problem.status]}")
        super().__init__("\n".join(lines), document)


class Server:
    """A server at `url`, to which an API key is shown. Tests hand in a transport that answers in its place."""

    def __init__(self, url: str, key: str | None, transport: httpx.BaseTransport | None) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=_checked(url),
            headers={} if key is None else {"X-API-Key": key},
            transport=transport,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, write=WRITE_SECONDS),
            # A proxy for the outside world cannot reach this machine's own address.
            trust_env=not _is_loopback(url),
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, parameters: Parameters = ()) -> httpx.Response:
        """Like every call but the sending of a file, it waits and asks again when there were too many requests."""
        return self._answered(lambda: self._http.get(path, params=tuple(parameters), timeout=_short()))

    def post_json(self, path: str, body: JsonBody) -> httpx.Response:
        return self._answered(lambda: self._http.post(path, json=body), MAY_BE_DONE)

    def post(self, path: str) -> httpx.Response:
        return self._answered(lambda: self._http.post(path, timeout=_short()), MAY_BE_DONE)

    def delete(self, path: str) -> httpx.Response:
        return self._answered(lambda: self._http.delete(path, timeout=_short()), MAY_BE_DONE)

    def _answered(self, ask: Callable[[], httpx.Response], consequence: str = "") -> httpx.Response:
        with self._failures(consequence):
            response = ask()
            waits = 0
            while waits < MAX_WAITS and (seconds := _seconds_to_wait(response)) is not None:
                _wait(seconds)
                response = ask()
                waits += 1
            return _successful(response)

    def post_file(self, path: str, fields: Mapping[str, str], name: str, content: BinaryIO) -> httpx.Response:
        """Sends the file as a multipart form, in pieces as they are read."""
        with self._failures(MAY_BE_DONE):
            return _successful(self._http.post(path, data=fields, files={"file": (name, content, "text/csv")}))

    @contextmanager
    def events(self, path: str, last_id: str | None) -> Iterator[Iterator[bytes]]:
        """A stream of events in pieces, as they arrive, from behind the one of this id; it may end at any time.

        Raises ServerAway when it breaks or stays silent, and CommandFailed for an answer that is no such stream.
        """
        headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        silence = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        with self._failures(), self._http.stream("GET", path, headers=headers, timeout=silence) as response:
            if response.status_code == HTTPStatus.NO_CONTENT:
                yield iter(())
                return
            if not response.headers.get("Content-Type", "").startswith(EVENT_STREAM):
                response.read()
                raise CommandFailed(_foreign(_successful(response)))
            yield response.iter_bytes()

    @contextmanager
    def download(self, path: str, parameters: Parameters = ()) -> Iterator[Iterator[bytes]]:
        """The answer's content in pieces, as they arrive."""
        with self._failures(), self._http.stream("GET", path, params=tuple(parameters)) as response:
            if not response.is_success:
                response.read()
                _successful(response)
            yield response.iter_bytes()

    @contextmanager
    def _failures(self, consequence: str = "") -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise ServerAway(f"cannot connect to {self._url} ({error}); is the server running there?") from error
        except httpx.ConnectTimeout as error:
            raise ServerAway(f"{self._url} did not answer within {CONNECT_SECONDS:.0f} seconds") from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ServerAway(f"the connection to {self._url} was lost ({reason}){consequence}") from error


@contextmanager
def connected(context: typer.Context, url: str, api_key: str | None, api_key_file: Path | None) -> Iterator[Server]:
    """The server for one command, as its options say."""
    transport = context.obj
    assert transport is None or isinstance(transport, httpx.BaseTransport)
    server = Server(url, chosen_key(api_key, api_key_file), transport)
    try:
        yield server
    finally:
        server.close()


def parsed(kind: type[Answer], response: httpx.Response) -> Answer:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise CommandFailed(_foreign(response)) from error


def _checked(url: str) -> httpx.URL:
    try:
        checked = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise CommandFailed(f"--url {url!r} is not a URL: {error}") from error
    if checked.scheme not in {"http", "https"} or not checked.host:
        raise CommandFailed(f"--url must begin with http:// or https:// and name a host, not {url!r}")
    return checked


def _is_loopback(url: str) -> bool:
    host = _checked(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seconds_to_wait(response: httpx.Response) -> int | None:
    """None when the answer asks for no waiting, or for too much."""
    if response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
        return None
    told = response.headers.get("Retry-After", "")
    seconds = int(told) if told.isascii() and told.isdigit() and len(told) < 6 else None
    return seconds if seconds is not None and seconds <= MAX_WAIT_SECONDS else None


def _wait(seconds: int) -> None:
    error_console().print(f"the server asks to wait for {seconds} seconds (too many requests)", soft_wrap=True)
    time.sleep(seconds)


def _short() -> httpx.Timeout:
    return httpx.Timeout(SHORT_READ_SECONDS, connect=CONNECT_SECONDS)


def _successful(response: httpx.Response) -> httpx.Response:
    if response.status_code in {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT}:
        return response
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError as error:
        kind = ServerAway if response.status_code in AWAY_STATUSES else CommandFailed
        raise kind(_foreign(response)) from error
    raise ServerRefused(problem, response.text)


def _foreign(response: httpx.Response) -> str:
    """Another program answered: a proxy, or whatever else listens there."""
    beginning = response.text[:SHOWN_CHARACTERS_OF_FOREIGN_ANSWER].strip()
    return (
        f"{response.request.url} answered {response.status_code} {response.reason_phrase}, "
        f"but not as Muster does: {beginning!r}"
    )
