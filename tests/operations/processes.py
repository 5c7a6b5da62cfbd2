"""An installation as an operator runs it: a server, workers beside it, one database; for tests that kill them."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx

from tests.served import ROOT, Served, serve
from tests.small_disk import SmallDisk

WAIT_SECONDS = 90
LOOK_SECONDS = 0.02
API = "/api/v1"
# For where only another process can open the database.
_SELECT = """
import sqlite3, sys
path, statement, seconds = sys.argv[1:]
print(sqlite3.connect(path, timeout=float(seconds)).execute(statement).fetchone()[0])
"""


@dataclass
class Worker:
    """A `muster worker`; `log` is its standard error."""

    process: subprocess.Popen[bytes]
    log: Path

    def send(self, what: signal.Signals) -> None:
        self.process.send_signal(what)

    def kill(self) -> None:
        """As the system does: without a word, with whatever processes it has."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()

    def wait(self) -> int:
        return self.process.wait(WAIT_SECONDS)


class Installation:
    """`url` is the database's; `disk` is what the server has below it. What it starts ends with the block."""

    def __init__(self, url: str, directory: Path, disk: SmallDisk | None = None, **settings: str) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self._url = url
        self._directory = directory
        self._disk = disk
        fixed = {"rate_limits": "off", "audit_seal_seconds": "3600", "access_token_seconds": "86400"}
        self._settings = {"database_url": url, **fixed, **settings}
        self._stack = ExitStack()
        # One for all calls: each of its own would load the certificates that this machine trusts.
        self._client = self._stack.enter_context(httpx.Client(timeout=WAIT_SECONDS))
        self._token: dict[str, str] | None = None
        self._server: Served | None = None
        self._workers = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def serve(self, *options: str) -> Served:
        """A server, when it answers; the installation's calls go to the newest one."""
        command = () if self._disk is None else self._disk.command
        server = serve(self._directory / "data", *options, command=command, **self._settings)
        self._stack.callback(server.end)
        if self._disk is not None:
            self._disk.pid = server.process.pid
        if self._token is None:
            form = {"username": "admin", "password": server.password}
            answer = self._client.post(f"{server.url}{API}/auth/login", data=form)
            self._token = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        self._server = server
        return server

    def worker(self) -> Worker:
        self._workers += 1
        log = self._directory / f"worker-{self._workers}.log"
        others = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        settings = {f"MUSTER_{name.upper()}": value for name, value in self._settings.items()}
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "worker"],
                env=others | settings | {"MUSTER_DATA_DIR": str(self._directory / "data")},
                cwd=ROOT,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        worker = Worker(process, log)
        self._stack.callback(worker.end)
        return worker

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        assert self._server is not None
        return self._client.request(method, self._server.url + API + path, headers=self._token, **options)

    def start_import(self, content: bytes, **form: str) -> int:
        files = {"file": ("fleet.csv", content, "text/csv")}
        answer = self.call("POST", "/instances/batch-create", files=files, data={"background": "true", **form})
        assert answer.status_code == 202, answer.text
        return int(answer.json()["id"])

    def start_deletion(self, ids: list[int]) -> int:
        body = {"instance_ids": ids, "mode": "hard", "background": True}
        answer = self.call("POST", "/instances/batch-delete", json=body)
        assert answer.status_code == 202, answer.text
        return int(answer.json()["id"])

    def register(self, content: bytes) -> list[int]:
        """Imports at once; the instances' ids."""
        files = {"file": ("fleet.csv", content, "text/csv")}
        answer = self.call("POST", "/instances/batch-create", files=files, data={"background": "false"})
        return [item["instance_id"] for item in answer.json()["items"]]

    def operation(self, operation_id: int) -> dict[str, Any]:
        answer = self.call("GET", f"/operations/{operation_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_for(self, operation_id: int, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECONDS
        while not is_so(found := self.operation(operation_id)):
            assert time.monotonic() < deadline, found
            time.sleep(LOOK_SECONDS)
        return found

    def wait_for_end(self, operation_id: int) -> dict[str, Any]:
        return self.wait_for(operation_id, lambda found: found["state"] not in ("queued", "running"))

    def wait_for_items(self, operation_id: int, more_than: int = 0) -> int:
        """Until the operation has more items than these; how many. (What it says of itself is noted later.)"""
        deadline = time.monotonic() + WAIT_SECONDS
        while (count := self.items(operation_id)) <= more_than:
            assert time.monotonic() < deadline, self.operation(operation_id)
            time.sleep(LOOK_SECONDS)
        return count

    def items(self, operation_id: int) -> int:
        return self.number(f"SELECT count(*) FROM operation_items WHERE operation_id = {operation_id}")

    def number(self, statement: str) -> int:
        """The one number that a statement selects, past all services."""
        return int(self.text(statement))

    def text(self, statement: str) -> str:
        if self.is_sqlite:
            return self._selected(self._url.partition("///")[2], statement)
        return asyncio.run(self._fetched(statement))

    def _selected(self, path: str, statement: str) -> str:
        if self._disk is not None:
            return self._disk.run(sys.executable, "-c", _SELECT, path, statement, str(WAIT_SECONDS))
        with closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as connection:
            return str(connection.execute(statement).fetchone()[0])

    async def _fetched(self, statement: str) -> str:
        connection = await asyncpg.connect(self._url)
        try:
            return str(await connection.fetchval(statement))
        finally:
            await connection.close()

    def instance_ids(self) -> list[int]:
        """Of all that there are."""
        listed = "json_group_array(id)" if self.is_sqlite else "json_agg(id)"
        return [int(key) for key in self.text(f"SELECT {listed} FROM instances").strip("[]").split(",")]

    def check_import(self, operation_id: int, created: int, ends: int = 1) -> None:
        """Instances, items and audit entries agree, and each row was written once. Each of its ends has an entry."""
        entries = f"FROM audit_events WHERE batch_id = (SELECT batch_id FROM operations WHERE id = {operation_id})"
        items = f"FROM operation_items WHERE operation_id = {operation_id} AND status = 'created'"
        assert self.number("SELECT count(*) FROM instances") == created
        assert self.number(f"SELECT count(DISTINCT instance_id) {items}") == created
        assert self.number(f"SELECT count(*) {items} AND instance_id IN (SELECT id FROM instances)") == created
        assert self.number(f"SELECT count(DISTINCT resource_id) {entries} AND action = 'instance:create'") == created
        assert self.number(f"SELECT count(*) {entries} AND action = 'instance:create'") == created
        assert self.number(f"SELECT count(*) {entries} AND action = 'instance:batch_create'") == ends
        self.check_no_orphans()

    def check_deletion(self, operation_id: int, ids: list[int], left: int = 0) -> None:
        """Only as many instances are left, and each of the others was deleted, noted and recorded once."""
        entries = f"FROM audit_events WHERE batch_id = (SELECT batch_id FROM operations WHERE id = {operation_id})"
        items = f"FROM operation_items WHERE operation_id = {operation_id} AND status = 'deleted'"
        assert self.number("SELECT count(*) FROM instances") == left
        assert self.number(f"SELECT count(DISTINCT instance_id) {items}") == len(ids)
        assert self.number(f"SELECT count(*) {entries} AND action = 'instance:delete'") == len(ids)
        assert self.number(f"SELECT count(DISTINCT resource_id) {entries} AND action = 'instance:delete'") == len(ids)
        self.check_no_orphans()

    def check_no_orphans(self) -> None:
        answer = self.call("GET", "/maintenance/orphans")
        assert answer.status_code == 200, answer.text
        assert not any(table["rows"] for table in answer.json()["tables"]), answer.text
