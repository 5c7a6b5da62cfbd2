"""What an operation survives, with real processes: they are killed, frozen and told to stop in mid-work.

After each fault the instances, the items and the audit entries say the same, and no orphan is left. With
MUSTER_TEST_SOAK=1 everything is more and goes on for longer.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.processes import Installation
from tests.postgres_server import PostgresServer

SOAK = bool(os.environ.get("MUSTER_TEST_SOAK"))
ROWS = 100_000 if SOAK else 8_000
DELETIONS = 5_000 if SOAK else 2_000
TIMES = 10 if SOAK else 1
# What one transaction of an attempt that has no item until its end has to write.
ATOMIC_ROWS = 60_000
HEARTBEAT_SECONDS = 2
TAKEOVER_SECONDS = 30


@pytest.fixture
def installation(database_url: str, tmp_path: Path) -> Iterator[Installation]:
    with Installation(
        database_url, tmp_path, batch_chunk_rows="100", worker_heartbeat_seconds=str(HEARTBEAT_SECONDS)
    ) as made:
        yield made


@pytest.fixture
def several(installation: Installation) -> Installation:
    """One on which workers can run beside the server."""
    if installation.is_sqlite:
        pytest.skip("on SQLite the server is the only worker")
    return installation


def csv_of(count: int, prefix: str = "n") -> bytes:
    lines = [f"{prefix}{number},postgresql,{prefix}{number}.example.com" for number in range(count)]
    return ("name,db_type,host\n" + "\n".join(lines) + "\n").encode()


class TestKilled:
    def test_server_in_mid_import(self, installation: Installation) -> None:
        server = installation.serve()
        operation = installation.start_import(csv_of(ROWS))
        done = 0
        for _ in range(TIMES):
            done = installation.wait_for_items(operation, done)
            server.end()
            server = installation.serve()
        ended = installation.wait_for_end(operation)
        assert (ended["state"], ended["counts"], ended["done"]) == ("succeeded", {"created": ROWS}, ROWS)
        assert ended["attempt"] > 1
        installation.check_import(operation, ROWS)

    def test_server_in_mid_deletion(self, installation: Installation) -> None:
        server = installation.serve()
        ids = installation.register(csv_of(DELETIONS))
        operation = installation.start_deletion(ids)
        installation.wait_for_items(operation)
        server.end()
        installation.serve()
        ended = installation.wait_for_end(operation)
        assert (ended["state"], ended["counts"]) == ("succeeded", {"deleted": DELETIONS})
        assert ended["attempt"] > 1
        installation.check_deletion(operation, ids)

    def test_worker_is_replaced_by_another(self, several: Installation) -> None:
        several.serve("--no-worker")
        first = several.worker()
        operation = several.start_import(csv_of(ROWS))
        several.wait_for_items(operation)
        first.kill()
        killed = time.monotonic()
        several.worker()
        several.wait_for(operation, lambda found: found["attempt"] > 1)
        assert time.monotonic() - killed < TAKEOVER_SECONDS
        assert several.wait_for_end(operation)["counts"] == {"created": ROWS}
        several.check_import(operation, ROWS)

    def test_one_whose_worker_dies_again_and_again_is_given_up_and_harms_no_other(
        self, installation: Installation
    ) -> None:
        """An atomic import has no item before its end, and its worker never gets there."""
        server = installation.serve()
        operation = installation.start_import(csv_of(ATOMIC_ROWS), atomic="true")
        for attempt in (1, 2, 3):
            installation.wait_for(operation, lambda found, attempt=attempt: found["attempt"] == attempt)  # type: ignore[misc]
            server.end()
            server = installation.serve()
        other = installation.start_import(csv_of(50, "other"))
        ended = installation.wait_for_end(operation)
        assert (ended["state"], ended["done"]) == ("failed", 0)
        assert "died 3 times" in ended["error"]["message"]
        assert installation.wait_for_end(other)["counts"] == {"created": 50}
        assert installation.number("SELECT count(*) FROM instances") == 50


class TestFrozen:
    def test_worker_that_wakes_again_writes_nothing(self, several: Installation) -> None:
        several.serve("--no-worker")
        frozen = several.worker()
        operation = several.start_import(csv_of(ROWS))
        several.wait_for_items(operation)
        frozen.send(signal.SIGSTOP)
        several.worker()
        several.wait_for(operation, lambda found: found["attempt"] > 1)
        frozen.send(signal.SIGCONT)
        ended = several.wait_for_end(operation)
        assert (ended["state"], ended["counts"], ended["attempt"]) == ("succeeded", {"created": ROWS}, 2)
        several.check_import(operation, ROWS)
        # It lives on, and works on the next.
        frozen.send(signal.SIGTERM)
        assert frozen.wait() == 0


class TestStopped:
    def test_server_hands_over_what_it_has_begun(self, installation: Installation) -> None:
        server = installation.serve()
        operation = installation.start_import(csv_of(ROWS))
        installation.wait_for_items(operation)
        assert server.stop(signal.SIGTERM) == 0
        assert installation.number(f"SELECT count(*) FROM operations WHERE id = {operation} AND state = 'queued'") == 1
        left = installation.items(operation)
        assert 0 < left < ROWS
        installation.serve()
        assert installation.wait_for_end(operation)["counts"] == {"created": ROWS}
        installation.check_import(operation, ROWS)

    def test_worker_hands_over_to_another_at_once(self, several: Installation) -> None:
        several.serve("--no-worker")
        first = several.worker()
        operation = several.start_import(csv_of(ROWS))
        several.wait_for_items(operation)
        second = several.worker()
        first.send(signal.SIGTERM)
        assert first.wait() == 0
        assert several.wait_for_end(operation)["counts"] == {"created": ROWS}
        several.check_import(operation, ROWS)
        assert second.process.poll() is None


class TestTogether:
    def test_two_workers_and_twenty_operations(self, several: Installation) -> None:
        """Every row exactly once."""
        rows = 5_000 if SOAK else 300
        several.serve("--no-worker")
        operations = [several.start_import(csv_of(rows, f"op{number}-")) for number in range(20)]
        several.worker()
        several.worker()
        for operation in operations:
            ended = several.wait_for_end(operation)
            assert (ended["state"], ended["counts"], ended["attempt"]) == ("succeeded", {"created": rows}, 1)
        assert several.number("SELECT count(*) FROM instances") == 20 * rows
        assert several.number("SELECT count(DISTINCT instance_id) FROM operation_items") == 20 * rows
        assert several.number("SELECT count(*) FROM audit_events WHERE action = 'instance:create'") == 20 * rows
        several.check_no_orphans()


class TestOwnPostgres:
    """A PostgreSQL that the test can crash; it is durable, as in production."""

    @pytest.fixture
    def postgres(self) -> Iterator[PostgresServer]:
        server = PostgresServer(fsync=True)
        server.start()
        yield server
        server.remove()

    @pytest.mark.parametrize("crashes", [False, True], ids=["restarted", "crashed"])
    def test_restarted_in_mid_import_and_mid_deletion(
        self, postgres: PostgresServer, tmp_path: Path, *, crashes: bool
    ) -> None:
        with Installation(
            postgres.url(), tmp_path, batch_chunk_rows="100", worker_heartbeat_seconds=str(HEARTBEAT_SECONDS)
        ) as installation:
            installation.serve()
            operation = installation.start_import(csv_of(ROWS))
            installation.wait_for_items(operation)
            postgres.stop(immediately=crashes)
            postgres.start()
            ended = installation.wait_for_end(operation)
            assert (ended["state"], ended["counts"]) == ("succeeded", {"created": ROWS})
            installation.check_import(operation, ROWS)

            ids = installation.instance_ids()[:DELETIONS]
            deletion = installation.start_deletion(ids)
            installation.wait_for_items(deletion)
            postgres.stop(immediately=crashes)
            postgres.start()
            ended = installation.wait_for_end(deletion)
            assert (ended["state"], ended["counts"]) == ("succeeded", {"deleted": len(ids)})
            installation.check_deletion(deletion, ids, ROWS - len(ids))
