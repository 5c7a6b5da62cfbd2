"""Nothing that is secret gets anywhere but where it belongs: not into the log, the database, or an error.

One session of use, over a real socket, at the most talkative log level, with secrets in all the places where they
belong and in those where people put them all the same.
"""

import asyncio
import base64
import io
import logging
import socket
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import LargeBinary, select

from app.config import Settings
from app.logs import configure_logging
from app.models import Base
from app.models.idempotency import IdempotencyKey
from app.users.passwords import hash_password
from tests.factories import Registry

NAME = "ann"
# None is part of another, nor of anything that is not secret.
PASSWORD = "seven-quiet-lighthouses-Zq1"
NEW_PASSWORD = "nine-loud-lighthouses-Zq2"
WRONG_PASSWORD = "eleven-dark-lighthouses-Zq3"
OTHERS_PASSWORD = "thirteen-red-lighthouses-Zq4"
CREDENTIAL_PASSWORD = "fifteen-tall-lighthouses-Zq5"
MISPLACED = [f"misplaced-secret-Zq{number}" for number in range(10, 26)]


class Log:
    """What is written, as it is written."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"log_level": "DEBUG"})


@pytest.fixture
def log(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """The server's; the client in this process has one too."""
    for name in ("httpx", "httpcore"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    log = Log()
    configure_logging("DEBUG")
    for handler in logging.getLogger().handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(log.stream)
    yield log
    configure_logging("WARNING")


@pytest.fixture
async def url(app: FastAPI, log: Log) -> AsyncIterator[str]:
    """A server as `muster serve` runs it, with a log line for every request."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=True, lifespan="off", proxy_headers=False))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await task
    listener.close()


class Session:
    """Calls, the secrets that came of them, and what was answered elsewhere."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.given_out: list[str] = []
        self.answers: list[httpx.Response] = []

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self.client.request(method, f"/api/v1{path}", **options)
        self.answers.append(answer)
        return answer

    async def obtain(self, path: str, *names: str, **options: Any) -> list[str]:
        """Secrets that an answer gives out, as it is to."""
        answer = await self.client.post(f"/api/v1{path}", **options)
        assert answer.is_success, answer.text
        found = [str(answer.json()[name]) for name in names]
        self.given_out += found
        return found

    async def send_with_key(self, key: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.client.base_url, headers={"X-API-Key": key}) as script:
            answer = await script.get("/api/v1/tags")
        self.answers.append(answer)
        return answer

    async def sign_in(self, password: str) -> list[str]:
        return await self.obtain(
            "/auth/login", "access_token", "refresh_token", data={"username": NAME, "password": password}
        )


async def use(session: Session) -> None:
    """What is to be done, by somebody who is careful."""
    send = session.send
    assert (await send("POST", "/auth/login", data={"username": NAME, "password": WRONG_PASSWORD})).status_code == 401
    access, refresh = await session.sign_in(PASSWORD)
    [access, _] = await session.obtain(
        "/auth/refresh", "access_token", "refresh_token", json={"refresh_token": refresh}
    )
    session.client.headers["Authorization"] = f"Bearer {access}"
    assert (await send("GET", "/auth/me")).status_code == 200
    [key] = await session.obtain("/api-keys", "key", json={"name": "nightly"}, headers={"Idempotency-Key": "1"})
    assert (await session.send_with_key(key)).status_code == 200
    for key in ("2", "2"):
        body = {"name": "reader", "username": "r", "type": "database", "password": CREDENTIAL_PASSWORD}
        assert (await send("POST", "/credentials", json=body, headers={"Idempotency-Key": key})).status_code == 201
    body = {"username": "bob", "password": OTHERS_PASSWORD}
    assert (await send("POST", "/users", json=body, headers={"Idempotency-Key": "3"})).status_code == 201
    files = {"file": b"name,db_type,host,credential\nn1,pg,h1,reader\n"}
    imported = await send("POST", "/instances/batch-create", files=files, headers={"Idempotency-Key": "4"})
    assert imported.json()["counts"]["created"] == 1
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert (await send("POST", "/auth/password", json=change)).is_success
    access, _ = await session.sign_in(NEW_PASSWORD)
    session.client.headers["Authorization"] = f"Bearer {access}"
    # A refresh token that was used is somebody else's by now.
    assert (await send("POST", "/auth/refresh", json={"refresh_token": refresh})).status_code == 401
    access, _ = await session.sign_in(NEW_PASSWORD)
    session.client.headers["Authorization"] = f"Bearer {access}"


async def misuse(session: Session) -> None:
    """Secrets where they do not belong."""
    send, given = session.send, iter(MISPLACED)
    as_json = {"content-type": "application/json"}
    basic = base64.b64encode(f"{NAME}:{next(given)}".encode()).decode()
    session.given_out.append(basic)
    await send("GET", "/tags", headers={"Authorization": f"Basic {basic}"})
    await send("GET", "/tags", headers={"Authorization": f"Bearer {next(given)}"})
    assert (await session.send_with_key(f"mst_{next(given)}")).status_code == 401
    await send("GET", f"/tags?password={next(given)}&api_key={next(given)}&limit=0")
    await send("GET", f"/nowhere?token={next(given)}")
    await send("POST", "/auth/login", content=f'{{"password": "{next(given)}"'.encode(), headers=as_json)
    await send("POST", "/users", content=f'{{"password": "{next(given)}",}}'.encode(), headers=as_json)
    await send("POST", "/users", json={"username": "carl", "passwrod": next(given)})
    await send("POST", "/users", json={"username": "carl", "password": [next(given)]})
    await send("POST", "/auth/refresh", json={"refresh_token": next(given) * 20})
    await send("POST", "/auth/refresh", json=next(given))
    await send("PATCH", "/credentials/1", json={"password": {"was": next(given)}})
    await send("POST", "/tags", json={"name": "t", "password": next(given)}, headers={"Idempotency-Key": "5"})
    csv = f"name,db_type,host,password\nn2,pg,h2,{next(given)}\n".encode()
    await send("POST", "/instances/batch-create", files={"file": csv}, headers={"Idempotency-Key": "6"})


async def everything_stored(app: FastAPI) -> str:
    """Each value of each table; answers that were kept, as they would be sent."""
    texts = []
    async with app.state.database.readers() as session:
        for table in Base.metadata.sorted_tables:
            for row in await session.execute(select(table)):
                texts += [repr(value) for value in row]
        bodies = (await session.execute(select(IdempotencyKey.body))).scalars().all()
    assert isinstance(IdempotencyKey.__table__.c.body.type, LargeBinary)
    assert len(bodies) >= 3
    texts += [zlib.decompress(body).decode() for body in bodies if body is not None]
    return "\n".join(texts)


@pytest.fixture
async def session(app: FastAPI, registry: Registry, url: str) -> AsyncIterator[Session]:
    """After it has all been done."""
    await registry.user(NAME, role="admin", password_hash=await hash_password(PASSWORD))
    async with httpx.AsyncClient(base_url=url) as client:
        session = Session(client)
        await use(session)
        await misuse(session)
        yield session


def found_in(text: str, session: Session) -> list[str]:
    passwords = [PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, OTHERS_PASSWORD, CREDENTIAL_PASSWORD]
    return [secret for secret in (*passwords, *MISPLACED, *session.given_out) if secret in text]


class TestSecrets:
    async def test_stay_where_they_belong(self, app: FastAPI, session: Session, log: Log) -> None:
        await app.state.failed_attempts.close()
        assert found_in(log.text, session) == []
        assert found_in(await everything_stored(app), session) == []
        assert found_in("\n".join(f"{answer.text} {answer.headers}" for answer in session.answers), session) == []

    async def test_this_test_would_see_them(self, app: FastAPI, session: Session, log: Log) -> None:
        """The log has every request and its request id, the database what was done, and the errors their reasons."""
        assert log.text.count("HTTP/1.1") >= len(session.answers)
        assert "/api/v1/nowhere HTTP" in log.text
        assert "credential:create" in await everything_stored(app)
        assert len(session.given_out) >= 8
        assert {answer.status_code for answer in session.answers} >= {200, 201, 401, 404, 422}


class TestQueries:
    async def test_are_not_logged(self, url: str, log: Log) -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            await client.get("/health/live?password=in-the-query")
            await client.get("/health/live%3Fpassword=in-the-path")
        assert "GET /health/live HTTP/1.1" in log.text
        assert "in-the-query" not in log.text
