"""Passwords hashed at a fraction of the cost: a hash of the service's takes as much processor time as a test.

Whatever sets, checks or renews a password does all that it does otherwise; only the parameters are others. Tests of
these ask for the fixture `costly_hashes`. Servers that are processes of their own hash as they always do.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from argon2 import PasswordHasher

from app.users import passwords

# What hashes, and the hash of a password that nobody knows with the same parameters.
_costly = passwords._argon2._hasher, passwords.NOBODYS_HASH
_quick = (
    PasswordHasher(time_cost=1, memory_cost=8, parallelism=1),
    "$argon2id$v=19$m=8,t=1,p=1$xN/1TJZIRDybx4PXPudzVg$RbigUXUnSHkb4zWHRNBuCDItyo7jIeOpU0rEe0gp3vE",
)


@contextmanager
def _hashing(hasher: PasswordHasher, nobodys_hash: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords._argon2, "_hasher", hasher)
        patch.setattr(passwords, "NOBODYS_HASH", nobodys_hash)
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    with _hashing(*_quick):
        yield


@pytest.fixture
def costly_hashes(quick_hashes: None) -> Iterator[None]:
    """The service's own."""
    with _hashing(*_costly):
        yield
