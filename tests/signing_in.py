"""Signing in without a password: tests of other things should not wait for its hash."""

from fastapi import FastAPI

from app.access.api_key_format import digest, new_key, shown
from app.access.permissions import Permission
from tests.factories import Registry


async def signed_in_as(app: FastAPI, user_id: int) -> dict[str, str]:
    """Headers with an access token of a session of the user's."""
    session_id = await Registry(app.state.database).user_session(user_id)
    return {"Authorization": f"Bearer {app.state.tokens.issue(user_id, session_id)}"}


async def key_of(app: FastAPI, user_id: int, scopes: tuple[Permission, ...] = tuple(Permission)) -> dict[str, str]:
    """Headers with a new API key of the user's."""
    key = new_key()
    values = {"user_id": user_id, "name": shown(key), "prefix": shown(key), "key_hash": digest(key)}
    await Registry(app.state.database).insert("api_keys", scopes=list(scopes), **values)
    return {"X-API-Key": key}
