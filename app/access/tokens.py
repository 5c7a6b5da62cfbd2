"""Access tokens: signed, short-lived, and worth nothing after the session that they belong to has ended.

JSON Web Tokens (RFC 7519) with HMAC-SHA256. Only that algorithm is accepted, whatever a token's header says.
"""

import time
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from app.config import Settings
from app.key_file import configured_or_made

ALGORITHM = "HS256"
ISSUER = "muster"
AUDIENCE = "muster-api"
KEY_FILE_NAME = "token.key"


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """`expires_at` in seconds since 1970."""

    user_id: int
    session_id: int
    expires_at: float


class AccessTokens:
    def __init__(self, key: bytes, lifetime_seconds: int) -> None:
        self._key = OctKey.import_key(key)
        self.lifetime_seconds = lifetime_seconds
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            sub={"essential": True},
            sid={"essential": True},
        )

    def issue(self, user_id: int, session_id: int) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": session_id,
            "iat": now,
            "exp": now + self.lifetime_seconds,
        }
        return jwt.encode({"alg": ALGORITHM}, claims, self._key, algorithms=[ALGORITHM])

    def verify(self, token: str) -> AccessClaims | None:
        """What the token says; None unless it is one of ours, unchanged and not expired."""
        try:
            claims: dict[str, Any] = jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
            self._claims.validate(claims)
            return AccessClaims(int(claims["sub"]), int(claims["sid"]), float(claims["exp"]))
        except (JoseError, ValueError, TypeError, KeyError):
            return None


def open_access_tokens(settings: Settings) -> AccessTokens:
    """Raises KeyRefused when the key cannot be used."""
    key = configured_or_made(settings.token_key, "MUSTER_TOKEN_KEY", settings.data_dir / KEY_FILE_NAME)
    return AccessTokens(key, settings.access_token_seconds)
