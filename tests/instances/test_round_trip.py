"""What was imported can be exported and imported again, and changes nothing."""

import csv
import io
from dataclasses import asdict, dataclass

import httpx
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.factories import Registry
from tests.instances.importing import Report, import_csv, instances

EXPORT = "/api/v1/instances/export"


@dataclass(frozen=True)
class Row:
    name: str
    db_type: str = "mysql"
    host: str = ""
    port: str = ""
    database_name: str = ""
    description: str = ""
    environment: str = ""
    credential: str = ""
    tags: str = ""
    sync_policy: str = ""
    is_active: str = ""
    deletion_protection: str = ""


first_letters = st.sampled_from("aZ09_一鿿核") | st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)
names = st.builds(lambda first, rest: first + rest, first_letters, st.text("abcXYZ019_.-库核心", max_size=12))
printable = st.characters(exclude_categories=["Cs", "Cc"])
lines = st.text(printable, max_size=30)
descriptions = st.builds(
    lambda start, text: start + text,
    st.sampled_from(["", "=", "+", "-", "@", "'", "'=", "''", '"', ",", "\n", "\t", "核心", "😀"]),
    st.text(printable | st.sampled_from("\n\r\t\"',;|"), max_size=60),
)
tag_names = st.text(printable.filter(lambda character: character not in "|;"), max_size=12)
rows = st.builds(
    Row,
    name=names,
    db_type=st.sampled_from(["mysql", "MariaDB", "pg", "mssql", "oracle", "redis", "mongodb"]),
    host=st.sampled_from(["h{}.example", "H{}.Example.", "10.0.0.{}", "2001:DB8:0::{}", "my_{}"]),
    port=st.sampled_from(["", "1", "65535", " 3306 "]),
    database_name=lines,
    description=descriptions,
    environment=st.sampled_from(["", "production", "Staging", "testing", "development"]),
    credential=st.sampled_from(["", "ops", "=1+1"]),
    tags=st.lists(tag_names, max_size=4).map("|".join),
    sync_policy=st.sampled_from(["", "off", "hourly", "DAILY", "weekly"]),
    is_active=st.sampled_from(["", "yes", "No", "是", "0"]),
    deletion_protection=st.sampled_from(["", "true", "FALSE", "1", "否"]),
)


def written(rows: list[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(asdict(rows[0])))
    writer.writeheader()
    writer.writerows(asdict(row) | {"host": row.host.format(number)} for number, row in enumerate(rows, 1))
    return text.getvalue().encode()


async def export(client: httpx.AsyncClient, space_id: int) -> bytes:
    answer = await client.get(EXPORT, params={"format": "csv", "space_id": space_id})
    assert answer.status_code == 200, answer.text
    return answer.content


class TestRoundTrip:
    @given(st.lists(rows, min_size=1, max_size=8, unique_by=lambda row: row.name))
    @example([Row("a", host="h", description="=1+1", tags="=x|'=y")])
    @example([Row("a", host="h", description="' \ufeff\u2028\x85 '")])
    @example([Row("a", host="h", description='"'), Row("b", host="h{}", description='a"b\r\n"c"\r')])
    @examples(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    async def test_any_rows_come_back_unchanged(
        self, client: httpx.AsyncClient, registry: Registry, rows: list[Row]
    ) -> None:
        space = await registry.space()
        for name in ("ops", "=1+1"):
            await registry.credential(name, space_id=space)
        created = await import_csv(client, written(rows), space_id=space)
        assert created.counts == {"rows": len(rows), "created": len(rows)}, created.body
        stored = await instances(client, space_id=space)

        file = await export(client, space)
        for on_existing, status in (("update", "unchanged"), ("skip", "skipped"), ("fail", "invalid")):
            report: Report = await import_csv(client, file, space_id=space, on_existing=on_existing)
            assert report.counts == {"rows": len(rows), status: len(rows)}, report.body
        assert await instances(client, space_id=space) == stored

    async def test_an_export_creates_the_same_elsewhere(self, client: httpx.AsyncClient, registry: Registry) -> None:
        here, there = await registry.space(), await registry.space()
        one = Row("a", "pg", "h", "7", "db", "-1 'q'\n\"x\"", "testing", "", "gold|核心", "daily", "no", "yes")
        await import_csv(client, written([one, Row("b", host="other")]), space_id=here)
        file = await export(client, here)
        assert (await import_csv(client, file, space_id=there)).counts == {"rows": 2, "created": 2}
        assert await export(client, there) == file

    async def test_the_template_can_be_imported(self, client: httpx.AsyncClient) -> None:
        template = (await client.get("/api/v1/instances/import-template")).content
        assert (await import_csv(client, template)).counts == {"rows": 7, "created": 7}
