"""Uploads and what comes back, for the tests of batch create."""

from dataclasses import dataclass
from typing import Any

import httpx

URL = "/api/v1/instances/batch-create"
HEADER = "name,db_type,host"


def csv_of(*rows: str, columns: str = HEADER) -> str:
    return "\n".join([columns, *rows]) + "\n"


def rows(count: int) -> list[str]:
    """Lines 2 and on: `n0` on host `h0`, `n1` on `h1`, …"""
    return [f"n{number},pg,h{number}" for number in range(count)]


async def upload(client: httpx.AsyncClient, content: str | bytes, **form: Any) -> httpx.Response:
    data = content.encode() if isinstance(content, str) else content
    return await client.post(URL, files={"file": ("instances.csv", data, "text/csv")}, data=form)


@dataclass(frozen=True)
class Report:
    """A report whose counts were found to add up."""

    body: dict[str, Any]

    def __post_init__(self) -> None:
        counts = dict(self.body["counts"])
        assert counts.pop("rows") == sum(counts.values()) == len(self.body["items"])
        statuses = [item["status"] for item in self.body["items"]]
        assert counts == {status: statuses.count(status) for status in counts}
        assert [item["line"] for item in self.body["items"]] == sorted(item["line"] for item in self.body["items"])
        bad, written = counts["invalid"] + counts["failed"], counts["created"] + counts["updated"]
        assert self.outcome == ("complete" if not bad else "partial" if written else "failed")

    @property
    def outcome(self) -> str:
        return str(self.body["outcome"])

    @property
    def counts(self) -> dict[str, int]:
        """Without the zeros."""
        return {status: count for status, count in self.body["counts"].items() if count}

    def statuses(self) -> dict[int, str]:
        return {item["line"]: item["status"] for item in self.body["items"]}

    def item(self, line: int) -> dict[str, Any]:
        [item] = [item for item in self.body["items"] if item["line"] == line]
        return dict(item)

    def errors(self, line: int) -> list[tuple[str | None, str]]:
        return [(error.get("column"), error["code"]) for error in self.item(line).get("errors", [])]

    def id_of(self, line: int) -> int:
        return int(self.item(line)["instance_id"])


async def import_csv(client: httpx.AsyncClient, content: str | bytes, **form: Any) -> Report:
    answer = await upload(client, content, **form)
    assert answer.status_code == 200, answer.text
    return Report(answer.json())


def problem(answer: httpx.Response) -> tuple[int, int]:
    """Status and code of an answer that is a problem document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"]
    return answer.status_code, int(body["code"])


async def instances(client: httpx.AsyncClient, **query: Any) -> dict[str, dict[str, Any]]:
    """What is registered, by name."""
    answer = await client.get("/api/v1/instances", params={"limit": 200, **query})
    assert answer.status_code == 200, answer.text
    assert answer.json()["next_cursor"] is None
    return {item["name"]: item for item in answer.json()["items"]}
