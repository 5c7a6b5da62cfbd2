"""A server with one operation, scripted: what it answers to a look, to items, and in its streams of events."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from tests.cli.conftest import problem

Script = Sequence[bytes | Exception | type[BaseException]]
HINT = "`muster operations watch 7` comes back to it, `muster operations cancel 7` stops it"


def operation(
    state: str = "running", done: int = 0, *, kind: str = "instance_import", **members: Any
) -> dict[str, Any]:
    finished = None if state in ("queued", "running") else "2026-11-22T10:00:09Z"
    return {
        "id": 7,
        "kind": kind,
        "state": state,
        "done": done,
        "total": 4,
        "counts": {},
        "rate": 2.0 if done else None,
        "remaining_seconds": None,
        "attempt": 1,
        "cancel_requested": False,
        "error": None,
        "request": {"filename": "fleet.csv", "dry_run": False},
        "created_at": "2026-11-22T10:00:00Z",
        "started_at": None,
        "finished_at": finished,
        **members,
    }


def event(document: dict[str, Any], revision: int) -> bytes:
    name = "done" if document["finished_at"] else "progress"
    return f"event: {name}\ndata: {json.dumps(document)}\nid: {revision}\n\n".encode()


def row(line: int, status: str) -> dict[str, Any]:
    error = {"column": "port", "code": "out_of_range", "message": f"no port in line {line}"}
    return {
        "position": line,
        "line": line,
        "name": f"db-{line}",
        "status": status,
        "instance_id": None,
        "errors": [error],
    }


BAD_ROWS = [row(3, "invalid"), row(5, "failed"), row(4, "invalid")]
PARTIAL = operation("partial", 4, counts={"created": 1, "invalid": 2, "failed": 1})
COMPLETE = operation("succeeded", 4, counts={"created": 4})
DELETED = [
    {"position": 1, "instance_id": 4, "name": "a", "status": "deleted", "rows_deleted": {"instance_accounts": 2}},
    {"position": 2, "instance_id": 9, "name": None, "status": "missing"},
]
DELETION = operation(
    "partial", 2, kind="instance_deletion", total=2, counts={"deleted": 1, "missing": 1}, request={"mode": "hard"}
)


class Server:
    """Answers looks in the order of `looks`, the last one again and again, and streams as they are scripted."""

    def __init__(self) -> None:
        self.started = operation("queued")
        self.looks: list[dict[str, Any] | httpx.Response | Exception] = []
        self.streams: list[Script | httpx.Response | Exception] = []
        self.items: list[dict[str, Any]] = []
        self.page_items = 200
        self.calls: list[str] = []
        self.seen: list[str | None] = []
        self.sent: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1/")
        self.calls.append(f"{request.method} {path}")
        if request.method == "POST":
            self.sent.append(request.content)
            return httpx.Response(202, json=self.started, headers={"Location": "/api/v1/operations/7"})
        if path == "operations/7/events":
            self.seen.append(request.headers.get("Last-Event-ID"))
            return self._stream(self.streams.pop(0) if self.streams else problem(404))
        if path == "operations/7/items":
            return self._page(request.url.params)
        if path == "operations/7":
            return self._look()
        raise AssertionError(path)

    def _stream(self, script: Script | httpx.Response | Exception) -> httpx.Response:
        if isinstance(script, httpx.Response):
            return script
        if isinstance(script, Exception):
            raise script
        return httpx.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, stream=Stream(script))

    def _look(self) -> httpx.Response:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return look if isinstance(look, httpx.Response) else httpx.Response(200, json=look)

    def _page(self, asked: httpx.QueryParams) -> httpx.Response:
        found = [item for item in self.items if item["status"] == asked.get("status", item["status"])]
        start = int(asked.get("cursor", "0"))
        end = start + self.page_items
        cursor = str(end) if end < len(found) else None
        return httpx.Response(200, json={"items": found[start:end], "next_cursor": cursor})


class Stream(httpx.SyncByteStream):
    def __init__(self, script: Script) -> None:
        self._script = script

    def __iter__(self) -> Iterator[bytes]:
        for step in self._script:
            if not isinstance(step, bytes):
                raise step
            yield step
