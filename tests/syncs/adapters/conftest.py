"""Real servers for adapters: one of each kind for a test process, started when the first test asks for it."""

from collections.abc import Iterator

import pytest

from tests.syncs.adapters.postgresql_servers import CarefulServer


@pytest.fixture(scope="session")
def careful() -> Iterator[CarefulServer]:
    server = CarefulServer()
    yield server
    server.postgres.remove()
