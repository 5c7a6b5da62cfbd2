"""Passwords: which are accepted, and how they are hashed and checked.

Hashes are argon2id, made in threads of their own: each takes 64 MiB and a good part of a processor on purpose, so only
a few are made at once, however many people sign in.
"""

import asyncio
import re
import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.errors import FieldError
from app.users.common_passwords import COMMON_PASSWORDS

MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 128
# What a password must hold beside the user's name, however often it repeats it.
MIN_CHARACTERS_BESIDE_NAME = 6
HASHES_AT_ONCE = 2

# RFC 9106, 4: the second recommended option, for where memory is not plenty.
_argon2 = Argon2Hasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
_hasher = PasswordHash((_argon2,))
_threads = ThreadPoolExecutor(HASHES_AT_ONCE, thread_name_prefix="password")
# Of a password that nobody knows, with the parameters above: what is checked where there is no user, so that it takes
# as long as where there is one.
NOBODYS_HASH = "$argon2id$v=19$m=65536,t=3,p=4$vME0Sn0kMaXvIr81pEgSCQ$gC2qgoG6kk9uAdM33o0UBgMPFxzpawhVLDDNoPefSYA"

# Without the characters that are mistaken for others when they are read from a screen.
_readable = "abcdefghjkmnpqrstuvwxyz23456789"
_refused_characters = re.compile(r"[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """`new_hash` is to be stored in the place of the old one, which was made with other parameters than today's."""

    is_right: bool
    new_hash: str | None


def require_acceptable(password: str, username: str | None = None) -> None:
    """Raises FieldError for one that is too short or long, or among the first that anybody would guess.

    What it consists of is its owner's business: rules about that make passwords worse.
    https://pages.nist.gov/800-63-4/sp800-63b.html#passwordver
    """
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise FieldError("too_short", f"a password must have at least {MIN_PASSWORD_CHARACTERS} characters")
    if len(password) > MAX_PASSWORD_CHARACTERS:
        raise FieldError("too_long", f"a password must have at most {MAX_PASSWORD_CHARACTERS} characters")
    if _refused_characters.search(password):
        raise FieldError("invalid_format", "a password must not hold NUL or half a surrogate pair")
    lowered = _normalized(password).casefold().strip()
    if lowered in COMMON_PASSWORDS:
        raise FieldError("too_common", "this password is one of those that are guessed first")
    if username and len(lowered.replace(username, "")) < MIN_CHARACTERS_BESIDE_NAME:
        raise FieldError("too_common", "this password is hardly more than the user name")


def generate_password() -> str:
    """Five groups of four characters: 99 bits, readable from a screen."""
    return "-".join("".join(secrets.choice(_readable) for _ in range(4)) for _ in range(5))


async def hash_password(password: str) -> str:
    """Its argon2id hash, in PHC string form."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _argon2.hash, _bytes(password))


async def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether the hash is this password's; without one, or with something else, False after the same time."""
    return (await check_password(password, password_hash)).is_right


async def check_password(password: str, password_hash: str | None) -> PasswordCheck:
    """The same, and the hash anew where its parameters are not today's."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _check, _bytes(password), password_hash)


def _check(password: bytes, password_hash: str | None) -> PasswordCheck:
    if password_hash is None or not Argon2Hasher.identify(password_hash):
        _hasher.verify(password, NOBODYS_HASH)
        return PasswordCheck(False, None)
    return PasswordCheck(*_hasher.verify_and_update(password, password_hash))


def _bytes(password: str) -> bytes:
    """The same for however a keyboard composes a character; a wrong one may hold what UTF-8 cannot."""
    return _normalized(password).encode("utf-8", "surrogatepass")


def _normalized(password: str) -> str:
    return unicodedata.normalize("NFKC", password)
