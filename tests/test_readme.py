import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from app.cli import cli
from app.config import Settings
from tests.served import ROOT, Served, serve

README = (ROOT / "README.md").read_text()
COMMANDS = sorted(get_command(cli).commands)  # type: ignore[attr-defined]


class TestReadme:
    def test_it_opens_with_the_two_commands(self) -> None:
        first_block = README.partition("```")[2].partition("```")[0]
        assert re.findall(r"^make \w+", first_block, re.MULTILINE) == ["make serve", "make test"]

    @pytest.mark.parametrize("name", Settings.model_fields)
    def test_every_setting_has_a_row_with_its_default(self, name: str) -> None:
        row = re.search(rf"^\| `MUSTER_{name.upper()}` \| ([^|]*) \|", README, re.MULTILINE)
        assert row is not None
        default = Settings.model_fields[name].default
        if default is not None:
            assert row[1] == f"`{default}`"

    def test_no_row_is_about_a_setting_that_is_gone(self) -> None:
        known = {f"MUSTER_{name.upper()}" for name in Settings.model_fields}
        assert set(re.findall(r"^\| `(MUSTER_\w+)` \|", README, re.MULTILINE)) <= known | {"MUSTER_URL"}

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_is_told(self, command: str) -> None:
        assert f"muster {command}" in README

    def test_every_make_target_that_it_names_is_there(self) -> None:
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(re.findall(r"\bmake ([a-z]+)\b", README)) <= targets

    def test_every_file_that_it_links_is_there(self) -> None:
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
        assert [link for link in links if not (ROOT / link).exists()] == []


@dataclass(frozen=True)
class Example:
    """A command that the README shows, and what it says that it prints; … stands for anything."""

    command: str
    printed: str

    @property
    def pattern(self) -> str:
        return re.escape(self.printed.strip()).replace("…\\\n", "(?:.*\n)?").replace("…", ".*")


def examples() -> list[Example]:
    """In the order of the text. `$` begins a command and `>` goes on with it."""
    found: list[Example] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *rest = re.split(r"\n(?!> )", part, maxsplit=1)
            found.append(Example(command.replace("\n> ", "\n"), "".join(rest)))
    return found


class TestExamples:
    @pytest.fixture
    def served(self, tmp_path: Path) -> Iterator[Served]:
        server = serve(tmp_path / "data")
        yield server
        server.end()

    @pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
    def test_every_command_prints_what_the_text_says(self, served: Served, tmp_path: Path) -> None:
        """One shell runs them all, as a reader's would, in a copy of what they need of the checkout."""
        shutil.copytree(ROOT / "examples", tmp_path / "examples")
        first, *others = examples()
        assert first.command == "make serve"
        separator = "-- next --"
        # What is put between two commands hands the first one's exit code on to the second.
        between = f"status=$?; echo '{separator}'; (exit $status)"
        script = "".join(f"{each.command}\n{between}\n" for each in others) + "exit 0\n"
        ran = subprocess.run(
            ["bash"],
            input=self.here(script, served),
            env={**os.environ, "MUSTER_URL": served.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs = [served.announced, *ran.stdout.split(f"{separator}\n")[:-1]]
        assert len(outputs) == len(others) + 1
        for example, output in zip([first, *others], outputs, strict=True):
            assert re.fullmatch(self.here(example.pattern, served), output.strip(), re.DOTALL), example.command

    @staticmethod
    def here(text: str, served: Served) -> str:
        """With the server's own address in place of the usual one, as text or as a pattern."""
        usual = "http://127.0.0.1:8000"
        return text.replace(usual, served.url).replace(re.escape(usual), re.escape(served.url))


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_option_is_explained(self, command: str) -> None:
        parameters = get_command(cli).commands[command].params  # type: ignore[attr-defined]
        assert [parameter.name for parameter in parameters if not parameter.help] == []

    @pytest.mark.parametrize("command", COMMANDS)
    def test_it_can_be_asked_for(self, command: str) -> None:
        result = CliRunner().invoke(cli, [command, "--help"])
        assert result.exit_code == 0
        assert "Usage: muster" in result.stdout
