"""Runs the migrations from inside the process, and tells which revision they lead to."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_root = Path(__file__).parent.parent


def _config() -> Config:
    return Config(str(_root / "alembic.ini"))


@cache
def migration_head() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def migrate(revision: str = "head") -> None:
    """Upgrades the configured database. Must not be called from a running event loop: env.py starts its own."""
    command.upgrade(_config(), revision)
