import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from app.access.permissions import ADMIN, BUILT_IN_ROLES, OPERATOR, VIEWER, Permission
from app.cli import cli
from app.config import Settings
from tests.served import ROOT, Served, serve

README = (ROOT / "README.md").read_text()


def commands(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Each command below the group, by the words that it is called with."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield " ".join((*names, name)), command


COMMANDS = dict(commands(get_command(cli)))


class TestReadme:
    def test_it_opens_with_the_two_commands(self) -> None:
        first_block = README.partition("```")[2].partition("```")[0]
        assert re.findall(r"^make \w+", first_block, re.MULTILINE) == ["make serve", "make test"]

    @pytest.mark.parametrize("name", Settings.model_fields)
    def test_every_setting_has_a_row_with_its_default(self, name: str) -> None:
        row = re.search(rf"^\| `MUSTER_{name.upper()}` \| ([^|]*) \|", README, re.MULTILINE)
        assert row is not None
        default = Settings.model_fields[name].default
        assert row[1] == (f"`{default}`" if default not in (None, "") else "none")

    def test_no_row_is_about_a_setting_that_is_gone(self) -> None:
        known = {f"MUSTER_{name.upper()}" for name in Settings.model_fields}
        assert set(re.findall(r"^\| `(MUSTER_\w+)` \|", README, re.MULTILINE)) <= known | {"MUSTER_URL"}

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_is_told(self, command: str) -> None:
        assert f"muster {command}" in README

    def test_every_make_target_that_it_names_is_there(self) -> None:
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(re.findall(r"(?:^|`|\$ )make ([a-z]+)\b", README, re.MULTILINE)) <= targets

    def test_every_file_that_it_links_is_there(self) -> None:
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
        assert [link for link in links if not (ROOT / link).exists()] == []


class TestAccess:
    """docs/access.md."""

    def test_the_table_of_permissions_is_that_of_the_code(self) -> None:
        text = (ROOT / "docs" / "access.md").read_text()
        rows = re.findall(r"^\| `([a-z_]+:[a-z_]+)` \| [^|]+ \| (.?) \| (.?) \| (.?) \|$", text, re.MULTILINE)
        told = {row[0]: [bool(mark) for mark in row[1:]] for row in rows}
        roles = [BUILT_IN_ROLES[name] for name in (VIEWER, OPERATOR, ADMIN)]
        assert told == {each.value: [each in role for role in roles] for each in Permission}


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
        # On a terminal curl shows no meter when it prints the answer.
        (tmp_path / ".curlrc").write_text("silent\n")
        first, *others = examples()
        assert first.command == "make serve"
        separator = "-- next --"
        # What is put between two commands hands the first one's exit code on to the second.
        between = f"status=$?; echo '{separator}'; (exit $status)"
        script = "".join(f"{each.command}\n{between}\n" for each in others) + "exit 0\n"
        others_settings = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        ran = subprocess.run(
            ["bash"],
            input=self.here(script, served),
            env=others_settings
            | {"HOME": str(tmp_path), "MUSTER_URL": served.url}
            | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        outputs = [served.announced, *ran.stdout.split(f"{separator}\n")[:-1]]
        assert len(outputs) == len(others) + 1, ran.stdout
        for example, output in zip([first, *others], outputs, strict=True):
            assert re.fullmatch(self.here(example.pattern, served), output.strip(), re.DOTALL), (
                f"{example.command}\n{output}"
            )

    @staticmethod
    def here(text: str, served: Served) -> str:
        """With the server's own address and secrets in place of those of the text; the same for a pattern."""
        own = {
            "http://127.0.0.1:8000": served.url,
            in_readme(r"^  password +(\S+)$"): served.password,
            in_readme(r"X-API-Key: (mst_[^\"]+)"): served.key["X-API-Key"],
        }
        for shown, real in own.items():
            text = text.replace(shown, real).replace(re.escape(shown), re.escape(real))
        return text


def in_readme(pattern: str) -> str:
    found = re.search(pattern, README, re.MULTILINE)
    assert found is not None
    return found[1]


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_option_is_explained(self, command: str) -> None:
        assert [parameter.name for parameter in COMMANDS[command].params if not parameter.help] == []

    @pytest.mark.parametrize("command", COMMANDS)
    def test_it_can_be_asked_for(self, command: str) -> None:
        result = CliRunner().invoke(cli, [*command.split(), "--help"])
        assert result.exit_code == 0
        assert "Usage: muster" in result.stdout
