"""The queue's dashboard (PostgreSQL): who is let in, what it shows, and that nothing can be changed by it."""

import base64
import hashlib
import re
from collections.abc import Mapping

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.access.api_key_format import new_key
from app.access.permissions import Permission
from app.config import Settings
from app.database import Database
from app.main import create_app
from app.operations.queue_dashboard import dashboard_queries
from tests.conftest import client_of
from tests.factories import Registry
from tests.operations.queueing import enqueued, jobs, on_postgresql
from tests.postgres_server import free_port
from tests.signing_in import key_of, signed_in_as
from tests.users.acting import user_with

PAGES = ["", "entrypoints", "jobs", "failures", "workers", "schedules", "system"]
PARTIALS = ["overview", "entrypoints", "jobs", "failures", "workers"]
FILES = ["style.css", "htmx.min.js", "idiomorph-ext.min.js"]
EVERYTHING = [*PAGES, *(f"partials/{each}" for each in PARTIALS), *(f"static/{each}" for each in FILES), "healthz"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"queue_dashboard": "on"})


@pytest.fixture
async def job(settings: Settings, database: Database) -> int:
    """The id of one that waits."""
    await enqueued(settings, database, 1)
    async with database.readers() as session:
        return int(await session.scalar(text("SELECT id FROM muster_queue.pgqueuer")) or 0)


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


async def answered(app: FastAPI, headers: Mapping[str, str], path: str = "/queue/jobs") -> httpx.Response:
    async with client_of(app, dict(headers)) as client:
        return await client.get(path)


@on_postgresql
class TestLettingIn:
    @pytest.mark.parametrize("page", [*EVERYTHING, "jobs/1", "jobs/goto?id=1", "nothing"])
    async def test_a_stranger_is_asked_for_a_key(self, stranger: httpx.AsyncClient, page: str) -> None:
        answer = await stranger.get(f"/queue/{page}")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Basic realm="Muster"'
        assert answer.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    async def test_a_stranger_learns_nothing_by_other_methods(self, stranger: httpx.AsyncClient, method: str) -> None:
        assert (await stranger.request(method, "/queue/jobs")).status_code == 401

    async def test_elsewhere_browsers_are_not_asked(self, stranger: httpx.AsyncClient) -> None:
        assert (await stranger.get("/api/v1/operations")).headers["www-authenticate"] == "Bearer"

    async def test_elsewhere_a_key_is_no_password(self, app: FastAPI, admin: int) -> None:
        key = (await key_of(app, admin))["X-API-Key"]
        assert (await answered(app, basic("admin", key), "/api/v1/operations")).status_code == 401

    async def test_every_other_permission_is_too_little(self, app: FastAPI, registry: Registry) -> None:
        user_id = await user_with(registry, *(set(Permission) - {Permission.OPERATION_READ_ALL}))
        assert (await answered(app, await signed_in_as(app, user_id))).status_code == 403

    async def test_the_permission_in_one_space_is_too_little(self, app: FastAPI, registry: Registry) -> None:
        user_id = await registry.user(role="admin", space_id=await registry.default_space())
        assert (await answered(app, await signed_in_as(app, user_id))).status_code == 403

    async def test_a_key_without_the_permission_of_who_has_it(self, app: FastAPI, admin: int) -> None:
        key = (await key_of(app, admin, (Permission.OPERATION_READ,)))["X-API-Key"]
        assert (await answered(app, basic("admin", key))).status_code == 403

    async def test_the_permission_everywhere_is_enough(self, app: FastAPI, registry: Registry) -> None:
        user_id = await user_with(registry, Permission.OPERATION_READ_ALL)
        assert (await answered(app, await signed_in_as(app, user_id))).status_code == 200

    async def test_an_administrator_by_token_key_and_password(self, app: FastAPI, admin: int) -> None:
        key = await key_of(app, admin)
        ways = [await signed_in_as(app, admin), key, basic("admin", key["X-API-Key"]), basic("", key["X-API-Key"])]
        assert [(await answered(app, headers)).status_code for headers in ways] == [200] * 4

    async def test_a_revoked_key_is_worth_nothing_at_once(self, app: FastAPI, admin: int) -> None:
        key = await key_of(app, admin)
        headers = basic("admin", key["X-API-Key"])
        assert (await answered(app, headers)).status_code == 200
        async with client_of(app, await signed_in_as(app, admin)) as client:
            [own] = (await client.get("/api/v1/api-keys")).json()["items"]
            assert (await client.delete(f"/api/v1/api-keys/{own['id']}")).is_success
        assert (await answered(app, headers)).status_code == 401

    @pytest.mark.parametrize(
        "headers",
        [
            basic("admin", "mst_" + "0" * 40),
            basic("admin", ""),
            {"Authorization": "Basic"},
            {"Authorization": "Basic !!!"},
            {"Authorization": "Basic \xff\xff"},
            {"Authorization": f"Basic {base64.b64encode(b'no colon').decode()}"},
            {"Authorization": f"Basic {base64.b64encode(bytes(range(58, 256))).decode()}"},
            {"Authorization": "Bearer rubbish"},
        ],
        ids=["unknown", "empty", "nothing", "no base64", "no ASCII", "no colon", "bytes", "a token"],
    )
    async def test_what_is_no_key(self, app: FastAPI, headers: dict[str, str]) -> None:
        as_sent = {name: value.encode("latin-1") for name, value in headers.items()}
        async with client_of(app) as client:
            answer = await client.get("/queue/", headers=as_sent)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Basic realm="Muster"'

    async def test_two_ways_at_once_are_none(self, app: FastAPI, admin: int) -> None:
        key = await key_of(app, admin)
        assert (await answered(app, key | basic("admin", key["X-API-Key"]))).status_code == 401


@on_postgresql
class TestLimits:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"rate_limits": "on", "rate_limit_requests": 3})

    async def test_guesses_count_as_a_strangers_calls(self, app: FastAPI) -> None:
        guess = basic("admin", "mst_" + "0" * 40)
        assert [(await answered(app, guess)).status_code for _ in range(4)] == [401, 401, 401, 429]

    async def test_views_count_as_calls_of_the_key(self, app: FastAPI, admin: int) -> None:
        headers = basic("admin", (await key_of(app, admin))["X-API-Key"])
        assert [(await answered(app, headers)).status_code for _ in range(4)] == [200, 200, 200, 429]


@on_postgresql
class TestShowing:
    @pytest.mark.parametrize("page", EVERYTHING)
    async def test_every_page_with_a_job(self, client: httpx.AsyncClient, job: int, page: str) -> None:
        assert (await client.get(f"/queue/{page}")).status_code == 200

    async def test_the_path_without_a_slash_leads_to_the_first_page(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/queue", follow_redirects=True)
        assert (answer.status_code, answer.url.path) == (200, "/queue/")

    async def test_a_job_is_shown_with_its_operation(
        self, client: httpx.AsyncClient, database: Database, job: int
    ) -> None:
        [(operation_id, status)] = await jobs(database)
        page = (await client.get(f"/queue/jobs/{job}")).text
        assert f"<pre>{operation_id}</pre>" in page
        assert f"status-{status}" in page
        listed = (await client.get("/queue/jobs")).text
        assert f"http://muster.test/queue/jobs/{job}" in listed

    async def test_every_link_leads_to_a_page(self, client: httpx.AsyncClient, job: int) -> None:
        page = (await client.get("/queue/jobs")).text
        links = set(re.findall(r'(?:href|src|hx-get)="([^"#]+)"', page))
        assert len(links) > 10
        for link in sorted(links):
            assert link.startswith("http://muster.test/queue/")
            assert (await client.get(link)).status_code == 200, link

    async def test_a_job_that_is_not_there_is_a_problem(self, client: httpx.AsyncClient) -> None:
        for path in ("jobs/999999", "nothing", "static/nothing"):
            answer = await client.get(f"/queue/{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, 25013)
        answer = await client.get("/queue/jobs/word")
        assert (answer.status_code, answer.json()["code"]) == (422, 25000)

    async def test_it_is_not_part_of_the_api(self, app: FastAPI) -> None:
        assert [path for path in app.openapi()["paths"] if path.startswith("/queue")] == []


@on_postgresql
class TestChangingNothing:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    async def test_no_method_but_get_leads_anywhere(
        self, client: httpx.AsyncClient, database: Database, job: int, method: str
    ) -> None:
        before = await jobs(database)
        for path in (f"jobs/{job}/cancel", "jobs/requeue", f"jobs/{job}", "jobs", ""):
            answer = await client.request(method, f"/queue/{path}", headers={"Sec-Fetch-Site": "same-origin"})
            assert answer.status_code in (404, 405), path
        assert await jobs(database) == before

    async def test_buttons_that_would_are_hidden(self, client: httpx.AsyncClient, job: int) -> None:
        page = (await client.get(f"/queue/jobs/{job}")).text
        assert re.findall(r"<(\w+)[^>]*\shx-post=", page) == ["button"]
        assert "button[hx-post], form[hx-post] button" in (await client.get("/queue/static/style.css")).text

    async def test_its_statements_cannot_write(self, database: Database, job: int) -> None:
        queries = dashboard_queries(database)
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await queries.driver.fetch("DELETE FROM muster_queue.pgqueuer RETURNING id")
        with pytest.raises(NotImplementedError):
            await queries.driver.execute("DELETE FROM muster_queue.pgqueuer")
        assert len(await jobs(database)) == 1

    async def test_looking_writes_nothing(self, client: httpx.AsyncClient, database: Database, job: int) -> None:
        """The library by itself would add up what has ended, in every view anew and twice when there are two."""
        for page in ("", "entrypoints"):
            assert (await client.get(f"/queue/{page}")).status_code == 200
        async with database.readers() as session:
            assert (
                await session.scalar(text("SELECT count(*) FROM muster_queue.pgqueuer_log WHERE NOT aggregated")) == 1
            )
            assert await session.scalar(text("SELECT count(*) FROM muster_queue.pgqueuer_statistics")) == 0


@on_postgresql
class TestPolicy:
    @pytest.mark.parametrize("page", PAGES)
    async def test_scripts_are_those_of_the_frame(self, client: httpx.AsyncClient, job: int, page: str) -> None:
        answer = await client.get(f"/queue/{page}")
        [policy] = answer.headers.get_list("content-security-policy")
        assert policy.startswith("default-src 'none';")
        assert "unsafe-inline" not in policy
        assert "unsafe-eval" not in policy
        inline = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
        assert len(inline) == 2
        for script in [*inline, *re.findall(r'\sonchange="([^"]*)"', answer.text)]:
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy

    @pytest.mark.parametrize("page", PAGES)
    async def test_nothing_comes_from_elsewhere(self, client: httpx.AsyncClient, job: int, page: str) -> None:
        text = (await client.get(f"/queue/{page}")).text
        links = re.findall(r'(?:href|src|action|hx-get|sse-connect)="(\w+://[^"]*)"', text)
        assert {httpx.URL(link).host for link in links} == {"muster.test"}

    async def test_the_other_headers_are_those_of_every_answer(self, client: httpx.AsyncClient) -> None:
        headers = (await client.get("/queue/")).headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "private, no-cache"

    async def test_what_is_refused_may_load_nothing(self, stranger: httpx.AsyncClient) -> None:
        [policy] = (await stranger.get("/queue/")).headers.get_list("content-security-policy")
        assert "script-src" not in policy


@on_postgresql
class TestOutage:
    @pytest.fixture
    def away(self, settings: Settings) -> Settings:
        """Of a database that is not there."""
        url = f"postgresql+asyncpg://muster@127.0.0.1:{free_port()}/muster"
        return Settings.model_validate(settings.model_dump() | {"database_url": url})

    async def test_a_page_tells_it(self, app: FastAPI, client: httpx.AsyncClient, away: Settings) -> None:
        database = Database(away)
        app.state.pgq_queries = dashboard_queries(database)
        for page in ("", "jobs", "healthz"):
            answer = await client.get(f"/queue/{page}")
            assert (answer.status_code, answer.json()["code"]) == (503, 25010)
            assert "retry-after" in answer.headers
        await database.dispose()

    async def test_a_server_starts_all_the_same(self, away: Settings) -> None:
        app = create_app(away)
        async with app.router.lifespan_context(app), client_of(app, basic("admin", new_key())) as client:
            assert (await client.get("/queue/")).status_code == 503


class TestOff:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"queue_dashboard": "off"})

    def test_it_is_by_default(self) -> None:
        assert Settings.model_fields["queue_dashboard"].default == "off"

    @pytest.mark.parametrize("path", ["/queue", "/queue/", "/queue/jobs", "/queue/static/style.css"])
    async def test_there_is_nothing(self, client: httpx.AsyncClient, path: str) -> None:
        assert (await client.get(path)).status_code == 404
