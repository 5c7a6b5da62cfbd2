"""Servers that answer with recorded rows: no server of these types is in the test run.

The rows have the shape that the reference gives for each view (the pages stand at the queries); a row of another width
than its question's does not fit, and a question that nobody recorded fails the test.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import SecretStr

from app.models.instance import DatabaseType, TlsMode
from app.syncs.adapters.port import Target
from app.syncs.adapters.question import Question
from app.syncs.failures import ServerFailure

T = TypeVar("T")

HOST = "db.muster.test"
PASSWORD = "s3cret-Pässwort"
Rows = Sequence[tuple[Any, ...]]


def a_target(db_type: DatabaseType, port: int = 1, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "host": HOST,
        "addresses": ("127.0.0.1",),
        "database_name": None,
        "username": "muster",
        "password": SecretStr(PASSWORD),
        "tls_mode": TlsMode.DISABLE,
        "connect_seconds": 10.0,
        "statement_seconds": 10.0,
    }
    return Target(db_type=db_type, port=port, **(values | changes))


class RecordedRows:
    """Answers questions; `asked` are their statements, in order."""

    def __init__(self, answers: Mapping[Question[Any], Rows | ServerFailure], version: str = "") -> None:
        self._answers = {question.statement: answer for question, answer in answers.items()}
        self.version = version
        self.asked: list[str] = []

    async def ask(self, question: Question[T]) -> Sequence[T]:
        self.asked.append(question.statement)
        answer = self._answers[question.statement]
        if isinstance(answer, ServerFailure):
            raise answer
        return [question.row(*row) for row in answer]


class RecordedDocuments:
    """Answers commands by their name and, for a collection's, its value; `asked` are the commands, in order."""

    def __init__(self, answers: Mapping[tuple[str, str], Any]) -> None:
        self._answers = answers
        self.asked: list[Mapping[str, Any]] = []

    async def ask(self, command: Mapping[str, Any], database: str = "admin") -> Mapping[str, Any]:
        self.asked.append(command)
        name, value = next(iter(command.items()))
        told = f"{database}.{value}" if name == "aggregate" else database
        answer = self._answers[name, told]
        if isinstance(answer, ServerFailure):
            raise answer
        found: Mapping[str, Any] = answer
        return found
