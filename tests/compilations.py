"""Statements compiled once for all tests: for each to compile its own anew took a fifth of their processor time."""

from typing import Any

from sqlalchemy import Dialect, Engine
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.util import LRUCache

# Several times what all of the service's and the tests' statements are.
CAPACITY = 5_000


class Compilations:
    """What engines look their compiled statements up in, all those together whose dialects compile alike."""

    def __init__(self) -> None:
        self._compiled: LRUCache[Any, Any] = LRUCache(CAPACITY)

    def get(self, key: tuple[Any, ...]) -> Any:
        return self._compiled.get(_common(key))

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        self._compiled[_common(key)] = compiled

    def __len__(self) -> int:
        return len(self._compiled)


def _common(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """SQLAlchemy's key begins with the dialect, of which each engine has its own."""
    dialect: Any = key[0]
    return (type(dialect), dialect.server_version_info, getattr(dialect, "_json_deserializer", None), *key[1:])


_compilations = Compilations()


def _share(_: type[Dialect], engine: Engine) -> None:
    engine._compiled_cache = _compilations


def share_compilations() -> None:
    """Of all engines that are made from now on."""
    for dialect in (PGDialect_asyncpg, SQLiteDialect_aiosqlite):
        dialect.engine_created = classmethod(_share)
