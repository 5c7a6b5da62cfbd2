"""The benchmarks' own user, who may do everything, and what a client presents to be taken for it.

The user, a session and an API key are rows of every database that is measured, put there before any template is made.
Every server is given the key that the access token is signed with.
"""

import time
from collections.abc import Iterator

import orjson

from app.access.api_key_format import digest, shown
from app.access.permissions import ADMIN, Permission
from app.access.tokens import AccessTokens
from app.audit.context import AuditContext
from bench.seed import POSTGRESQL

USER_ID, SESSION_ID = 1, 1
USERNAME = "bench"
TOKEN_KEY = "the-benchmarks-sign-their-token-with-this"
API_KEY = "mst_the-benchmarks-show-this-key-instead-of-it"
# Longer than any run.
TOKEN_SECONDS = 7 * 24 * 3600
_NEVER = "2100-01-01 00:00:00"

BEARER = {"Authorization": f"Bearer {AccessTokens(TOKEN_KEY.encode(), TOKEN_SECONDS).issue(USER_ID, SESSION_ID)}"}
KEY = {"X-API-Key": API_KEY}
STRANGER: dict[str, str] = {}


def audit_context(path: str, request_id: str, status: int = 200) -> AuditContext:
    """What the service notes of a call of this user's, for floors that write as much."""
    return AuditContext(
        actor_id=USER_ID,
        actor_name=USERNAME,
        api_key_prefix=None,
        client_address="127.0.0.1",
        method="POST",
        path=path,
        status=status,
        duration_ms=100,
        request_id=request_id,
    )


def statements(kind: str) -> Iterator[str]:
    now, never = _moment(kind, time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())), _moment(kind, _NEVER)
    scopes = orjson.dumps([permission.value for permission in Permission]).decode()
    yield (
        "INSERT INTO users (id, username, password_hash, password_changed_at) "
        f"VALUES ({USER_ID}, '{USERNAME}', '!', {now})"
    )
    yield f"INSERT INTO role_grants (user_id, role_id) SELECT {USER_ID}, id FROM roles WHERE name = '{ADMIN}'"
    yield (
        "INSERT INTO user_sessions (id, user_id, created_at, expires_at) "
        f"VALUES ({SESSION_ID}, {USER_ID}, {now}, {never})"
    )
    yield (
        "INSERT INTO api_keys (user_id, name, prefix, key_hash, scopes, created_at) "
        f"VALUES ({USER_ID}, 'bench', '{shown(API_KEY)}', '{digest(API_KEY)}', '{scopes}', {now})"
    )


def _moment(kind: str, utc: str) -> str:
    return f"TIMESTAMPTZ '{utc}+00'" if kind == POSTGRESQL else f"'{utc}.000000'"
