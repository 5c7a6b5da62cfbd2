"""What the tests of signing in share."""

from collections.abc import Iterator

import pytest

from app.users import passwords


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The hashes that passwords have been compared with."""
    seen: list[str] = []
    verify = passwords._argon2.verify

    def noting(password: bytes, stored: str) -> bool:
        seen.append(stored)
        return verify(password, stored)

    monkeypatch.setattr(passwords._argon2, "verify", noting)
    yield seen
