"""What was judged of an upload is kept beside it, and only taken when it is whole and of this version."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from app.instances import kept_judgement
from app.instances.csv_file import FileRefused
from app.instances.csv_rows import JudgedFile
from app.instances.file_judge import FileJudge
from app.instances.judged_rows import rows_in_chunks
from app.instances.kept_judgement import JudgementPaths, judged_once, read_judged
from tests.instances.importing import csv_of

CONTENT = csv_of("a,pg,h", "a,pg,i", "b,pg,h", "c c,pg,j")


@pytest.fixture
def judge() -> Iterator[FileJudge]:
    judge = FileJudge(0)
    yield judge
    judge.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "0123"
    path.write_text(CONTENT)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> JudgementPaths:
    return JudgementPaths(tmp_path / "0123.frames", tmp_path / "0123.judged")


async def judged(judge: FileJudge, source: Path, paths: JudgementPaths) -> JudgedFile:
    return await judged_once(judge, source, paths, "auto", False)


async def names(paths: JudgementPaths) -> list[str | None]:
    return [row.name async for rows in rows_in_chunks(paths.frames, 10) for row in rows]


class TestKept:
    async def test_it_is_the_same_when_it_is_read(self, judge: FileJudge, source: Path, paths: JudgementPaths) -> None:
        first = await judged(judge, source, paths)
        assert first.contested_names
        assert first.contested_endpoints
        assert read_judged(paths) == first
        assert await names(paths) == ["a", "a", "b", "c c"]

    async def test_it_is_not_made_again(self, judge: FileJudge, source: Path, paths: JudgementPaths) -> None:
        first = await judged(judge, source, paths)
        await asyncio.to_thread(source.write_text, "no longer a file that can be judged")
        assert await judged(judge, source, paths) == first

    async def test_nothing_else_is_left(self, judge: FileJudge, source: Path, paths: JudgementPaths) -> None:
        await judged(judge, source, paths)
        assert {path.name for path in source.parent.iterdir()} == {"0123", "0123.frames", "0123.judged"}

    async def test_nothing_is_kept_of_a_file_that_is_refused(
        self, judge: FileJudge, source: Path, paths: JudgementPaths
    ) -> None:
        await asyncio.to_thread(source.write_text, "name\na\n")
        with pytest.raises(FileRefused):
            await judged(judge, source, paths)
        assert [path.name for path in source.parent.iterdir()] == ["0123"]


def of_another_form(paths: JudgementPaths) -> None:
    values = orjson.loads(paths.judged.read_bytes())
    paths.judged.write_bytes(orjson.dumps(values | {"form": kept_judgement.FORM + 1}))


class TestMadeAgain:
    @pytest.mark.parametrize(
        "harm",
        [
            lambda paths: paths.frames.unlink(),
            lambda paths: paths.judged.unlink(),
            lambda paths: paths.judged.write_bytes(b"{"),
            lambda paths: paths.judged.write_bytes(b"{}"),
            of_another_form,
        ],
        ids=["without rows", "without the whole", "cut off", "empty", "of another form"],
    )
    async def test_where_it_is_not_whole(
        self, judge: FileJudge, source: Path, paths: JudgementPaths, harm: Callable[[JudgementPaths], object]
    ) -> None:
        first = await judged(judge, source, paths)
        harm(paths)
        assert read_judged(paths) is None
        assert await judged(judge, source, paths) == first
        assert await names(paths) == ["a", "a", "b", "c c"]
