"""`muster audit`, on both databases; what the check itself finds is told in tests/audit."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import Select, delete, select, update

from app.audit.recorder import AuditEntry, record
from app.audit.sealer import AuditSealer
from app.audit.sealing_key import open_sealing
from app.config import Settings
from app.database import Database
from app.models.audit import AuditEvent
from tests.cli.conftest import Run

Verify = Callable[..., Result]


async def sealed(settings: Settings, entries: int) -> None:
    """That many entries, sealed."""
    database = Database(settings)
    async with database.writers.begin() as session:
        for number in range(entries):
            await record(session, AuditEntry("tag:create", "tag", number, f"tag-{number}", 1))
    await AuditSealer(database, open_sealing(settings)).seal()
    await database.dispose()


async def execute(settings: Settings, statement: Any) -> Any:
    """The first row of what the statement finds."""
    database = Database(settings)
    try:
        async with database.writers.begin() as session:
            result = await session.execute(statement)
            return result.first() if isinstance(statement, Select) else None
    finally:
        await database.dispose()


@pytest.fixture
def trail(settings: Settings) -> Settings:
    asyncio.run(sealed(settings, 5))
    return settings


@pytest.fixture
def audit(run: Run, settings: Settings) -> Verify:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    return lambda *options: run("audit", *map(str, options), database_url=url, data_dir=settings.data_dir)


@pytest.fixture
def verify(audit: Verify) -> Verify:
    return lambda *options: audit("verify", *options)


@pytest.fixture
def head(trail: Settings, tmp_path: Path) -> Path:
    """The newest entry's place and seal, as GET /audit/head answered them."""
    newest = select(AuditEvent.sequence, AuditEvent.seal).order_by(AuditEvent.sequence.desc()).limit(1)
    sequence, seal = asyncio.run(execute(trail, newest))
    file = tmp_path / "head.json"
    file.write_text(json.dumps({"sequence": sequence, "seal": seal, "entries": 5, "unsealed": 0}))
    return file


class TestIntact:
    def test_is_0_and_tells_how_much_was_checked(self, trail: Settings, verify: Verify) -> None:
        result = verify()
        assert result.exit_code == 0, result.output
        assert "intact: 5 sealed entries were checked; 0 are not sealed yet" in result.stdout

    def test_so_is_a_trail_that_still_has_the_head(self, head: Path, verify: Verify) -> None:
        assert verify("--from-head", head).exit_code == 0


class TestTampering:
    def test_a_changed_entry_is_1_and_named(self, trail: Settings, verify: Verify) -> None:
        asyncio.run(execute(trail, update(AuditEvent).where(AuditEvent.sequence == 3).values(actor_name="eve")))
        result = verify()
        assert result.exit_code == 1
        assert "entry 3 (id 3) does not fit its seal" in result.stdout
        assert "1 finding: 5 sealed entries" in result.stdout

    def test_a_missing_entry_is_1(self, trail: Settings, verify: Verify) -> None:
        asyncio.run(execute(trail, delete(AuditEvent).where(AuditEvent.sequence == 3)))
        result = verify()
        assert result.exit_code == 1
        assert "missing" in result.stdout

    def test_the_newest_ones_cut_off_are_found_by_a_head_that_was_kept(
        self, trail: Settings, head: Path, verify: Verify
    ) -> None:
        asyncio.run(execute(trail, delete(AuditEvent).where(AuditEvent.sequence > 3)))
        assert verify().exit_code == 0
        result = verify("--from-head", head)
        assert result.exit_code == 1
        assert "cut_off" in result.stdout


class TestFailure:
    def test_without_the_key_is_2_and_none_is_made(self, settings: Settings, verify: Verify) -> None:
        result = verify()
        assert result.exit_code == 2
        assert "there is no audit key" in result.stderr
        assert list(settings.data_dir.glob("*.key")) == []

    @pytest.mark.parametrize("content", ["", "{}", '{"sequence": -1, "seal": "0"}', "not JSON"])
    def test_a_file_that_is_no_head_is_2(self, trail: Settings, verify: Verify, tmp_path: Path, content: str) -> None:
        file = tmp_path / "head.json"
        file.write_text(content)
        result = verify("--from-head", file)
        assert result.exit_code == 2
        assert "is no answer of GET /api/v1/audit/head" in result.stderr


class TestHead:
    def test_what_it_prints_is_what_verify_takes(
        self, trail: Settings, audit: Verify, verify: Verify, tmp_path: Path
    ) -> None:
        result = audit("head")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert (found["sequence"], found["entries"], found["unsealed"]) == (5, 5, 0)
        assert found["read_at"].endswith("Z")
        file = tmp_path / "kept.json"
        file.write_text(result.stdout)
        assert verify("--from-head", file).exit_code == 0
        asyncio.run(execute(trail, delete(AuditEvent).where(AuditEvent.sequence == 5)))
        assert verify("--from-head", file).exit_code == 1

    def test_needs_no_key(self, settings: Settings, audit: Verify) -> None:
        result = audit("head")
        assert json.loads(result.stdout)["sequence"] == 0
        assert list(settings.data_dir.glob("*.key")) == []


class TestRestart:
    def restart(self, audit: Verify, reason: str = "the disk broke") -> Result:
        return audit("restart", "--reason", reason)

    def lose_key(self, settings: Settings) -> None:
        (settings.data_dir / "audit.key").write_text("x" * 64)

    def test_begins_a_chain_that_is_intact(self, trail: Settings, audit: Verify, verify: Verify) -> None:
        self.lose_key(trail)
        assert verify().exit_code == 1
        result = self.restart(audit)
        assert result.exit_code == 0, result.output
        assert "a new chain begins after entry 5; the 5 entries up to there cannot be verified" in result.stdout
        assert audit("seal").stdout == "1 entry was sealed\n"
        result = verify()
        assert result.exit_code == 0
        since = datetime.now(UTC).strftime("%Y-%m-%d")
        assert "5 entries, up to 5, were sealed with a key that was lost and cannot be verified" in result.stdout
        assert f"the chain was restarted on {since}" in result.stdout
        assert "intact: 1 sealed entries were checked" in result.stdout

    def test_a_new_chain_that_is_broken_is_1(self, trail: Settings, audit: Verify, verify: Verify) -> None:
        self.lose_key(trail)
        self.restart(audit)
        audit("seal")
        asyncio.run(execute(trail, update(AuditEvent).where(AuditEvent.sequence == 6).values(actor_name="eve")))
        assert verify().exit_code == 1

    def test_the_present_key_is_2(self, trail: Settings, audit: Verify) -> None:
        result = self.restart(audit)
        assert result.exit_code == 2
        assert "the chain was not restarted: the trail is sealed with the present key" in result.stderr

    def test_without_a_key_is_2_and_none_is_made(self, trail: Settings, audit: Verify) -> None:
        (trail.data_dir / "audit.key").unlink()
        result = self.restart(audit)
        assert result.exit_code == 2
        assert "there is no audit key" in result.stderr
        assert list(trail.data_dir.glob("*.key")) == []

    @pytest.mark.parametrize("reason", [" ", "a" * 501, "two\nlines"])
    def test_no_reason_is_2(self, trail: Settings, audit: Verify, reason: str) -> None:
        self.lose_key(trail)
        result = self.restart(audit, reason)
        assert result.exit_code == 2
        assert "reason must" in result.stderr


class TestSeal:
    def test_seals_what_is_there(self, trail: Settings, audit: Verify, verify: Verify) -> None:
        asyncio.run(execute(trail, update(AuditEvent).where(AuditEvent.sequence == 5).values(sequence=None)))
        result = audit("seal")
        assert (result.exit_code, result.stdout) == (0, "1 entry was sealed\n")
        assert verify().exit_code == 0

    def test_another_key_is_2(self, trail: Settings, audit: Verify) -> None:
        asyncio.run(execute(trail, update(AuditEvent).where(AuditEvent.sequence == 5).values(sequence=None)))
        (trail.data_dir / "audit.key").write_text("x" * 64)
        result = audit("seal")
        assert result.exit_code == 2
        assert "another key" in result.stderr
