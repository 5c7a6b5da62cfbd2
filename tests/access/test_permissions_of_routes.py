"""Every call of the OpenAPI document with no, too little and enough permission.

Nothing is listed here by hand: a route that is added is tested with the others, and one that declares nothing cannot
be made.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from app.access.permissions import Permission
from app.access.routing import AccessUndeclared, GuardedRoute
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import key_of, signed_in_as
from tests.users.acting import user_with

METHODS = ("get", "post", "put", "patch", "delete")
ANYWHERE = re.compile(r"\{[^}]+\}")
# No row has it.
NO_ID = "999999"


@dataclass(frozen=True)
class Operation:
    """`permission` None asks for no more than to be signed in."""

    method: str
    path: str
    is_public: bool
    permission: Permission | None
    everywhere: bool

    async def call(self, app: FastAPI, headers: dict[str, str] | None = None) -> httpx.Response:
        """Without a body: who may not call must be refused before one is looked at."""
        async with client_of(app, headers) as client:
            return await client.request(self.method, ANYWHERE.sub(NO_ID, self.path))

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


def operations(app: FastAPI) -> Iterator[Operation]:
    for path, item in app.openapi()["paths"].items():
        for method in METHODS:
            declared = item.get(method)
            if declared is not None and path != "/metrics":
                permission = declared.get("x-permission")
                yield Operation(
                    method,
                    path,
                    "x-public" in declared,
                    None if permission is None else Permission(permission),
                    declared.get("x-everywhere", False),
                )


def guarded(app: FastAPI) -> list[Operation]:
    return [each for each in operations(app) if not each.is_public]


def demanding(app: FastAPI) -> list[tuple[Operation, Permission]]:
    """Those that ask for a permission, and which."""
    return [(each, each.permission) for each in guarded(app) if each.permission is not None]


class TestDeclarations:
    async def test_every_route_is_guarded_and_documented(self, app: FastAPI) -> None:
        """What is made by another class of route would be open to all, and what is hidden would escape these tests."""
        routes = [
            (context.path, context.original_route)
            for context in iter_route_contexts(app.routes)
            if context.path.startswith("/api/")
        ]
        assert [path for path, route in routes if not isinstance(route, GuardedRoute)] == []
        made = {(path, method) for path, route in routes if isinstance(route, APIRoute) for method in route.methods}
        documented = {(each.path, each.method.upper()) for each in operations(app) if each.path.startswith("/api/")}
        assert made == documented
        assert len(made) > 40

    def test_a_route_that_declares_nothing_cannot_be_made(self) -> None:
        router = APIRouter(route_class=GuardedRoute)
        with pytest.raises(AccessUndeclared):
            router.get("/forgotten")(lambda: None)

    async def test_what_is_public_says_why(self, app: FastAPI) -> None:
        paths = app.openapi()["paths"]
        reasons = {str(each): paths[each.path][each.method]["x-public"] for each in operations(app) if each.is_public}
        assert [name for name, reason in reasons.items() if len(reason) < 10] == []
        assert {name for name in reasons if "/api/" in name} == {
            "POST /api/v1/auth/login",
            "POST /api/v1/auth/refresh",
        }

    async def test_what_is_guarded_offers_both_ways_to_sign_in(self, app: FastAPI) -> None:
        paths = app.openapi()["paths"]
        both = [{"bearer": []}, {"api_key": []}]
        assert [str(each) for each in guarded(app) if paths[each.path][each.method]["security"] != both] == []


class TestNoCredential:
    async def test_is_not_let_in(self, app: FastAPI) -> None:
        answers = {str(each): await each.call(app) for each in guarded(app)}
        assert [name for name, answer in answers.items() if answer.status_code != 401] == []

    async def test_is_enough_for_what_is_public(self, app: FastAPI) -> None:
        answers = {str(each): await each.call(app) for each in operations(app) if each.is_public}
        assert [name for name, answer in answers.items() if answer.status_code in (401, 403)] == []


class TestTooLittle:
    async def test_every_permission_but_the_one(self, app: FastAPI, registry: Registry) -> None:
        users = {each: await user_with(registry, *(set(Permission) - {each})) for each in Permission}
        headers = {each: await signed_in_as(app, user_id) for each, user_id in users.items()}
        let_in = [
            str(each)
            for each, permission in demanding(app)
            if (await each.call(app, headers[permission])).status_code != 403
        ]
        assert let_in == []

    async def test_a_key_without_it_of_a_user_who_has_it(self, app: FastAPI, admin: int) -> None:
        keys = {each: await key_of(app, admin, tuple(set(Permission) - {each})) for each in Permission}
        let_in = [
            str(each)
            for each, permission in demanding(app)
            if (await each.call(app, keys[permission])).status_code != 403
        ]
        assert let_in == []

    async def test_in_one_space_where_it_is_needed_everywhere(self, app: FastAPI, registry: Registry) -> None:
        user_id = await registry.user(role="admin", space_id=await registry.default_space())
        headers = await signed_in_as(app, user_id)
        answers = [(each, await each.call(app, headers)) for each, _ in demanding(app)]
        wrong = [str(each) for each, answer in answers if (answer.status_code == 403) != each.everywhere]
        assert wrong == []


class TestEnough:
    async def test_the_one_permission(self, app: FastAPI, registry: Registry) -> None:
        """Alone, wherever it is needed. What then is missing is a body, or what the address names."""
        users = {each: await user_with(registry, each) for each in Permission}
        headers = {each: await signed_in_as(app, user_id) for each, user_id in users.items()}
        refused = [
            str(each)
            for each, permission in demanding(app)
            if (await each.call(app, headers[permission])).status_code in (401, 403)
        ]
        assert refused == []

    async def test_nothing_but_to_be_signed_in(self, app: FastAPI, registry: Registry) -> None:
        user_id = await registry.user()
        refused = [
            str(each)
            for each in guarded(app)
            if each.permission is None
            # A session for each: one of the calls ends it.
            and (await each.call(app, await signed_in_as(app, user_id))).status_code in (401, 403)
        ]
        assert refused == []
