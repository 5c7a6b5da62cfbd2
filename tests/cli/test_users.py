"""`muster user`, on both databases: what it changes there, and what it says."""

import asyncio
import hashlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import Select, insert, select

from app.caller import SERVICE_NAME
from app.commands import users
from app.config import Settings
from app.database import Database
from app.models.audit import AuditEvent
from app.models.base import utc_now
from app.models.role import Role, RoleGrant
from app.models.space import Space
from app.models.user import SessionEnd, SignInFailure, User, UserSession
from app.users.passwords import verify_password
from tests.cli.conftest import Run
from tests.served import ROOT

PASSWORD = "a password for tests"
ANOTHER = "another password for tests"
Users = Callable[..., Result]


@pytest.fixture
def muster_user(run: Run, settings: Settings) -> Users:
    """Runs `muster user …` on the test's database."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        return run("user", *arguments, stdin=stdin, database_url=url, data_dir=settings.data_dir, log_level="WARNING")

    return invoke


@pytest.fixture
def rows(settings: Settings) -> Callable[..., Sequence[Any]]:
    """What a statement finds; one that changes something is committed."""

    async def run(statement: Any) -> Sequence[Any]:
        database = Database(settings)
        try:
            async with database.writers.begin() as session:
                result = await session.execute(statement)
                return result.all() if isinstance(statement, Select) else ()
        finally:
            await database.dispose()

    return lambda statement: asyncio.run(run(statement))


def held(name: str) -> Any:
    """(role, space) of the user's grants."""
    return (
        select(Role.name, Space.name)
        .select_from(RoleGrant)
        .join(User, User.id == RoleGrant.user_id)
        .join(Role, Role.id == RoleGrant.role_id)
        .outerjoin(Space, Space.id == RoleGrant.space_id)
        .where(User.username == name)
    )


def created(muster_user: Users, name: str, *options: str) -> None:
    result = muster_user("create", name, "--password-stdin", *options, stdin=f"{PASSWORD}\n")
    assert result.exit_code == 0, result.output


class TestCreate:
    def test_a_role_everywhere(self, muster_user: Users, rows: Any) -> None:
        result = muster_user("create", "Alice", "--role", "operator", "--password-stdin", stdin=f"{PASSWORD}\n")
        assert result.exit_code == 0
        assert result.stdout == "user alice was made and has the role operator everywhere\n"
        assert rows(held("alice")) == [("operator", None)]

    def test_a_role_in_a_space(self, muster_user: Users, rows: Any) -> None:
        result = muster_user(
            "create", "bob", "--role", "viewer", "--space", "default", "--password-stdin", stdin=PASSWORD
        )
        assert "has the role viewer in default" in result.stdout
        assert rows(held("bob")) == [("viewer", "default")]

    def test_no_role(self, muster_user: Users, rows: Any) -> None:
        created(muster_user, "carol")
        assert rows(held("carol")) == []

    def test_the_password_is_that_of_standard_input_without_its_line_break(self, muster_user: Users, rows: Any) -> None:
        created(muster_user, "alice")
        ((stored,),) = rows(select(User.password_hash))
        assert asyncio.run(verify_password(PASSWORD, stored))

    def test_a_generated_one_is_shown_once(self, muster_user: Users, rows: Any) -> None:
        result = muster_user("create", "alice", "--generate")
        shown = re.search(r"^password  (\S+)$", result.stdout, re.MULTILINE)
        assert shown is not None
        ((stored,),) = rows(select(User.password_hash))
        assert asyncio.run(verify_password(shown[1], stored))

    def test_the_audit_trail_says_that_the_service_did_it(self, muster_user: Users, rows: Any) -> None:
        created(muster_user, "alice", "--role", "admin")
        entries = rows(select(AuditEvent.action, AuditEvent.actor_id, AuditEvent.actor_name, AuditEvent.changes))
        assert [tuple(entry)[:3] for entry in entries] == [
            ("user:create", None, SERVICE_NAME),
            ("role:grant", None, SERVICE_NAME),
        ]
        assert PASSWORD not in str(entries)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--role", "king"], "there is no role named 'king'"),
            (["--role", "viewer", "--space", "nowhere"], "there is no space named 'nowhere'"),
            (["--space", "default"], "give --role too"),
        ],
    )
    def test_what_is_not_there_makes_nobody(
        self, muster_user: Users, rows: Any, options: list[str], message: str
    ) -> None:
        result = muster_user("create", "alice", "--password-stdin", *options, stdin=PASSWORD)
        assert result.exit_code == 2
        assert message in result.stderr
        assert rows(select(User.id)) == []

    @pytest.mark.parametrize(
        ("name", "password", "message"),
        [
            ("alice", "short", "at least 12 characters"),
            ("alice", "password1234", "guessed first"),
            ("no spaces", PASSWORD, "username must consist of"),
            ("alice", f"{PASSWORD}\n{ANOTHER}", "the password and nothing else, not 2 lines"),
            ("alice", "", "the password and nothing else, not 0 lines"),
        ],
    )
    def test_what_is_refused(self, muster_user: Users, rows: Any, name: str, password: str, message: str) -> None:
        result = muster_user("create", name, "--password-stdin", stdin=password)
        assert result.exit_code == 2
        assert message in result.stderr
        assert rows(select(User.id)) == []

    def test_a_name_that_is_taken(self, muster_user: Users) -> None:
        created(muster_user, "alice")
        again = muster_user("create", "ALICE", "--generate")
        assert again.exit_code == 2
        assert "there is a user named 'alice' already" in again.stderr
        assert again.stdout == ""

    def test_two_ways_to_a_password(self, muster_user: Users) -> None:
        result = muster_user("create", "alice", "--generate", "--password-stdin", stdin=PASSWORD)
        assert result.exit_code == 2
        assert "not both" in result.stderr

    def test_no_terminal_to_ask_on(self, muster_user: Users) -> None:
        result = muster_user("create", "alice", stdin=PASSWORD)
        assert result.exit_code == 2
        assert "no terminal to ask on; give --password-stdin or --generate" in result.stderr


class TestPasswd:
    def test_sets_it_and_ends_the_sessions(self, muster_user: Users, rows: Any) -> None:
        created(muster_user, "alice")
        ((user_id,),) = rows(select(User.id))
        rows(insert(UserSession).values(user_id=user_id, expires_at=utc_now()))
        result = muster_user("passwd", "Alice", "--password-stdin", stdin=ANOTHER)
        assert result.exit_code == 0, result.output
        assert "user alice has a new password; all sessions have ended" in result.stdout
        assert ANOTHER not in result.output
        ((stored,),) = rows(select(User.password_hash))
        assert asyncio.run(verify_password(ANOTHER, stored))
        assert rows(select(UserSession.end_reason)) == [(SessionEnd.PASSWORD,)]

    def test_lifts_the_locks_of_this_account(self, muster_user: Users, rows: Any) -> None:
        created(muster_user, "alice")
        now = utc_now()
        locked = {"failures": 5, "first_failed_at": now, "locked_until": now + timedelta(minutes=15)}
        for name, address in (("alice", "192.0.2.1"), ("alice", "192.0.2.2"), ("bob", "192.0.2.1")):
            digest = hashlib.sha256(name.encode()).hexdigest()
            rows(insert(SignInFailure).values(username=digest, address=address, **locked))
        assert muster_user("passwd", "Alice", "--generate").exit_code == 0
        assert rows(select(SignInFailure.username)) == [(hashlib.sha256(b"bob").hexdigest(),)]

    def test_nobody_of_that_name(self, muster_user: Users) -> None:
        result = muster_user("passwd", "nobody", "--generate")
        assert result.exit_code == 2
        assert "there is no user 'nobody'" in result.stderr
        assert result.stdout == ""


class TestDisable:
    def test_disables_and_ends_the_sessions(self, muster_user: Users, rows: Any) -> None:
        created(muster_user, "alice", "--role", "viewer")
        ((user_id,),) = rows(select(User.id))
        rows(insert(UserSession).values(user_id=user_id, expires_at=utc_now()))
        result = muster_user("disable", "alice")
        assert result.exit_code == 0, result.output
        assert "user alice is disabled" in result.stdout
        assert rows(select(User.is_active)) == [(False,)]
        assert rows(select(UserSession.end_reason)) == [(SessionEnd.DISABLED,)]

    def test_not_the_last_administrator(self, muster_user: Users, rows: Any) -> None:
        created(muster_user, "alice", "--role", "admin")
        result = muster_user("disable", "alice")
        assert result.exit_code == 2
        assert "last active administrator" in result.stderr
        assert rows(select(User.is_active)) == [(True,)]


class TestList:
    def test_users_by_name_with_their_roles(self, muster_user: Users) -> None:
        created(muster_user, "carol")
        created(muster_user, "alice", "--role", "admin")
        created(muster_user, "bob", "--role", "viewer", "--space", "default")
        muster_user("disable", "carol")
        assert muster_user("list").stdout.splitlines() == [
            "user   active  roles              last signed in",
            "alice  yes     admin",
            "bob    yes     viewer in default",
            "carol  no",
        ]

    def test_more_than_a_page(self, muster_user: Users, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(users, "MAX_PAGE_ITEMS", 1)
        for name in ("bob", "alice", "carol"):
            created(muster_user, name)
        assert [line.split()[0] for line in muster_user("list").stdout.splitlines()] == [
            "user", "alice", "bob", "carol",
        ]  # fmt: skip


class TestDatabase:
    def test_one_without_tables_is_2(self, run: Run, tmp_path: Path) -> None:
        result = run("user", "list", data_dir=tmp_path)
        assert result.exit_code == 2
        assert "cannot be used: no such table" in result.stderr

    def test_no_key_file_is_left_for_the_server_to_stumble_over(self, muster_user: Users, settings: Settings) -> None:
        created(muster_user, "alice")
        assert list(settings.data_dir.glob("*.key")) == []


class TestTerminal:
    """A process of its own: a terminal cannot be put under one that runs."""

    def asked(self, settings: Settings, *answers: str) -> tuple[int, str]:
        """Its exit code, and all that was to be seen."""
        assert settings.database_url is not None
        controlling, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "user", "create", "alice"],
            cwd=ROOT,
            env={**os.environ, "MUSTER_DATABASE_URL": settings.database_url.get_secret_value(),
                 "MUSTER_DATA_DIR": str(settings.data_dir)},
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        seen = ""
        for answer in answers:
            while not seen.rstrip(" ").endswith(":"):
                seen += os.read(controlling, 1000).decode()
            seen += "\n"
            os.write(controlling, answer.encode())
        code = process.wait(30)
        return code, seen + self.rest(controlling)

    def rest(self, controlling: int) -> str:
        seen = b""
        try:
            while piece := os.read(controlling, 1000):
                seen += piece
        except OSError:
            pass  # that is how the end of a terminal is told
        os.close(controlling)
        return seen.decode()

    @pytest.mark.parametrize("database_kind", ["sqlite"])
    def test_asks_twice_and_shows_nothing(self, settings: Settings, rows: Any) -> None:
        code, seen = self.asked(settings, f"{PASSWORD}\n", f"{PASSWORD}\n")
        assert code == 0, seen
        assert "New password:" in seen
        assert "The same again:" in seen
        assert PASSWORD not in seen
        assert len(rows(select(User.id))) == 1

    @pytest.mark.parametrize("database_kind", ["sqlite"])
    def test_two_that_differ_make_nobody(self, settings: Settings, rows: Any) -> None:
        code, seen = self.asked(settings, f"{PASSWORD}\n", f"{ANOTHER}\n")
        assert code == 2
        assert "the two are not the same; nothing was changed" in seen
        assert rows(select(User.id)) == []

    @pytest.mark.parametrize("database_kind", ["sqlite"])
    def test_an_interruption_is_130(self, settings: Settings, rows: Any) -> None:
        code, seen = self.asked(settings, f"{PASSWORD}\n", "\x04")
        assert code == 130
        assert "muster: interrupted" in seen
        assert rows(select(User.id)) == []
