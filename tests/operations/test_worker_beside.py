"""The worker beside `muster serve` on PostgreSQL: it gives way, is started again, and ends with the server."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from app.worker_process import NICENESS
from tests.operations.processes import WAIT_SECONDS, Installation
from tests.operations.queueing import on_postgresql
from tests.served import Served

pytestmark = on_postgresql
ROWS = 8_000
END_SECONDS = 30.0
READY = "the worker beside the server is ready"


@pytest.fixture
def installation(database_url: str, tmp_path: Path) -> Iterator[Installation]:
    settings = {"batch_chunk_rows": "100", "worker_heartbeat_seconds": "2", "audit_seal_seconds": "0.2"}
    with Installation(database_url, tmp_path, **settings, worker_grace_seconds="1") as made:
        yield made


def csv_of(count: int) -> bytes:
    return ("name,db_type,host\n" + "".join(f"n{each},redis,n{each}.example.com\n" for each in range(count))).encode()


def until(is_so: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def workers(server: Served) -> list[int]:
    """The processes that were ready so far, the newest last."""
    lines = [orjson.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line["process_id"] for line in lines if line["event"] == READY]


def worker_of(server: Served, number: int = 1) -> int:
    until(lambda: len(workers(server)) >= number)
    return workers(server)[-1]


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class TestAtWork:
    def test_it_gives_way_to_the_server(self, installation: Installation) -> None:
        server = installation.serve()
        worker = worker_of(server)
        priorities = [os.getpriority(os.PRIO_PROCESS, each) for each in (server.process.pid, worker)]
        assert priorities[1] - priorities[0] == NICENESS

    def test_it_works_on_operations_and_seals_the_audit_trail(self, installation: Installation) -> None:
        installation.serve()
        operation = installation.start_import(csv_of(50))
        assert installation.wait_for_end(operation)["counts"] == {"created": 50}
        until(lambda: not installation.number("SELECT count(*) FROM audit_events WHERE sequence IS NULL"))

    def test_one_that_dies_is_started_again_and_loses_nothing(self, installation: Installation) -> None:
        server = installation.serve()
        operation = installation.start_import(csv_of(ROWS))
        installation.wait_for_items(operation)
        os.kill(worker_of(server), signal.SIGKILL)
        ended = installation.wait_for_end(operation)
        assert (ended["state"], ended["counts"], ended["attempt"]) == ("succeeded", {"created": ROWS}, 2)
        assert len(set(workers(server))) == 2
        assert '"exit_code": -9' in server.log.read_text()
        installation.check_import(operation, ROWS)


class TestEnding:
    @pytest.mark.parametrize("to_group", [False, True])
    def test_it_hands_over_and_ends_with_a_server_that_is_told_to_stop(
        self, installation: Installation, to_group: bool
    ) -> None:
        """SIGTERM as a service manager sends it, or Ctrl-C, which the terminal sends to every process."""
        server = installation.serve()
        worker = worker_of(server)
        operation = installation.start_import(csv_of(ROWS))
        installation.wait_for_items(operation)
        if to_group:
            os.killpg(server.process.pid, signal.SIGINT)
        else:
            server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(END_SECONDS) == 0
        assert not is_there(worker)
        assert installation.text(f"SELECT state FROM operations WHERE id = {operation}") == "queued"
        assert installation.number("SELECT count(*) FROM instances") == installation.items(operation) < ROWS
        installation.serve()
        assert installation.wait_for_end(operation)["counts"] == {"created": ROWS}
        installation.check_import(operation, ROWS)

    def test_it_ends_after_a_server_that_is_killed(self, installation: Installation) -> None:
        server = installation.serve()
        worker = worker_of(server)
        operation = installation.start_import(csv_of(ROWS))
        installation.wait_for_items(operation)
        server.process.kill()
        server.process.wait()
        until(lambda: not is_there(worker), END_SECONDS)
        assert installation.text(f"SELECT state FROM operations WHERE id = {operation}") == "queued"

    def test_one_that_does_not_end_is_killed(self, installation: Installation) -> None:
        server = installation.serve()
        worker = worker_of(server)
        os.kill(worker, signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(END_SECONDS) == 0
        until(lambda: not is_there(worker), END_SECONDS)
        assert "did not end when told to; it is killed" in server.log.read_text()

    def test_there_is_none_when_operations_are_left_to_others(self, installation: Installation) -> None:
        server = installation.serve("--no-worker")
        # The server keeps house itself then.
        until(lambda: not installation.number("SELECT count(*) FROM audit_events WHERE sequence IS NULL"))
        assert not workers(server)
