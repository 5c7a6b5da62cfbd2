"""Files are judged outside the event loop, in a process that comes and goes with the server."""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.instances import file_judge
from app.instances.csv_file import FileFault, FileRefused
from app.instances.csv_rows import JudgedFile
from app.instances.file_judge import FileJudge
from app.instances.problem_rows import Problem, write_problem_rows, write_problems
from app.main import create_app
from tests.instances.importing import csv_of, import_csv
from tests.instances.judging import judge_and_tell
from tests.instances.workbooks import workbook

GONE_SECONDS = 10


def children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS
    while pid in children():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(tmp_path / "upload", csv_of("a,pg,h"))


@pytest.fixture(scope="module")
def judge() -> Iterator[FileJudge]:
    """One for all tests that do it no harm: a process takes long to start."""
    judge = FileJudge(1)
    yield judge
    judge.close()


def written_rows(path: Path) -> list[str]:
    """Without the header."""
    return path.read_text("utf-8-sig").splitlines()[1:]


async def judged(judge: FileJudge, source: Path) -> JudgedFile:
    return await judge.judge(source, source.with_suffix(".frames"), "auto", False)


class TestProcess:
    async def test_it_is_another_one(self, judge: FileJudge, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(file_judge, "judge_file", judge_and_tell)
        assert (await judged(judge, source)).rows == 1
        assert int(source.with_suffix(".pid").read_text()) in children() - {os.getpid()}

    async def test_refusals_come_back_whole(self, judge: FileJudge, tmp_path: Path) -> None:
        source = written(tmp_path / "upload", "name,host\na,h\n")
        with pytest.raises(FileRefused) as refused:
            await judged(judge, source)
        assert refused.value.fault is FileFault.UNPARSABLE
        assert refused.value.details[0].column == "db_type"

    async def test_the_rows_of_problems_are_written_there_too(
        self, judge: FileJudge, source: Path, tmp_path: Path
    ) -> None:
        problems, target = tmp_path / "problems", tmp_path / "rows"
        write_problems(problems, [Problem(2, "name", "required", "missing")])
        await judge.run(partial(write_problem_rows, source, problems, target, "auto", False))
        assert written_rows(target) == ["a,pg,h,2,name,required,missing"]

    async def test_a_workbook_is_read_there_too(self, judge: FileJudge, tmp_path: Path) -> None:
        source = tmp_path / "upload"
        await asyncio.to_thread(source.write_bytes, workbook(("name", "db_type", "host"), ("a", "pg", "h")))
        assert (await judged(judge, source)).encoding == "xlsx"
        await asyncio.to_thread(source.write_bytes, workbook(("name", "db_type", "host"), ("a", "pg", "h"))[:-100])
        with pytest.raises(FileRefused, match="damaged"):
            await judged(judge, source)

    async def test_killed_while_it_judges_it_is_replaced_once(self, source: Path) -> None:
        before = children()
        judge = FileJudge(1)
        try:
            await judged(judge, source)
            [pid] = children() - before
            os.kill(pid, signal.SIGSTOP)
            others = [written(source.with_name(f"upload-{number}"), csv_of("a,pg,h")) for number in range(3)]
            waiting = [asyncio.create_task(judged(judge, other)) for other in others]
            await asyncio.sleep(0.1)
            kill(pid)
            assert [each.rows for each in await asyncio.gather(*waiting)] == [1, 1, 1]
            assert len(children() - before) == 1
        finally:
            judge.close()
        assert children() <= before


@pytest.fixture
def database_kind() -> str:
    """The process knows no database; one suffices."""
    return "sqlite"


@pytest.fixture
def bystanders() -> set[int]:
    """Processes that are not the server's."""
    return children()


@pytest.fixture
async def app(settings: Settings, bystanders: set[int]) -> AsyncIterator[FastAPI]:
    application = create_app(settings.model_copy(update={"judge_processes": 1}))
    async with application.router.lifespan_context(application):
        yield application
    assert children() <= bystanders


class TestServer:
    async def test_an_upload_after_the_process_was_killed(
        self, client: httpx.AsyncClient, bystanders: set[int]
    ) -> None:
        """That the process ends with the server is asserted where the server ends, in the fixture."""
        assert (await import_csv(client, csv_of("a,pg,h"))).counts == {"rows": 1, "created": 1}
        [pid] = children() - bystanders
        kill(pid)
        assert (await import_csv(client, csv_of("b,pg,h2"))).counts == {"rows": 1, "created": 1}
