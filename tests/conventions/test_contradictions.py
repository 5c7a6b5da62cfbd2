"""Whatever a signed-in client sends, the answer is one that the OpenAPI document tells of, and never a 500.

Requests are made up from the document. `MUSTER_TEST_EXAMPLES` says how many for each call; with hundreds it is a soak.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.served import Served, serve

EXAMPLES = int(os.environ.get("MUSTER_TEST_EXAMPLES", "8"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# It ends the session that all the other calls are made in; tests/users/test_sessions.py looks after it.
LEFT_OUT = {"POST /api/v1/auth/logout"}
PASSWORD = "to sign in with, once"


@pytest.fixture
def served(database_kind: str, database_url: str, tmp_path: Path) -> Iterator[Served]:
    settings = {"admin_password": PASSWORD, "rate_limits": "off", "log_level": "ERROR", "judge_processes": "0"}
    if database_kind == "postgresql":
        settings["database_url"] = database_url
    server = serve(tmp_path / "data", **settings)
    yield server
    server.end()


@pytest.fixture
def headers(served: Served) -> dict[str, str]:
    answer = httpx.post(f"{served.url}/api/v1/auth/login", data={"username": "admin", "password": PASSWORD})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def contradictions(operation: Any, headers: dict[str, str]) -> list[str]:
    """What made-up requests found: for each call the first answer that is wrong, with how to send it again."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def call(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    try:
        call()
    except (Exception, FailureGroup) as error:
        return [f"{operation.label}: {error}"]
    return []


class TestMadeUpRequests:
    def test_get_answers_that_the_document_tells_of(self, served: Served, headers: dict[str, str]) -> None:
        schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        assert {each.label for each in operations} > LEFT_OUT
        wrong = [
            found
            for operation in operations
            if operation.label not in LEFT_OUT
            for found in contradictions(operation, headers)
        ]
        assert wrong == [], "\n\n".join(wrong)
        assert httpx.get(f"{served.url}/api/v1/auth/me", headers=headers).status_code == 200
