"""What an API key looks like, and what of it is stored: its beginning, and its SHA-256.

A key has 256 bits from the system's random source, so that a fast hash is enough: there is nothing to guess.
"""

import hashlib
import secrets

PREFIX = "mst_"
# How much of a key is shown to tell keys apart: the prefix and eight characters (48 bits).
SHOWN_CHARACTERS = 12
MAX_CHARACTERS = 100


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def shown(key: str) -> str:
    return key[:SHOWN_CHARACTERS]


def digest(secret: str) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()
