"""What is installed and how it is deployed: the lock files, the image and the compose file, read as data."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-drivers.lock", "requirements-dev.lock", "requirements-build.lock")


_pin = re.compile(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    """Version by name, of every requirement in a lock file; the last where it differs by version of Python."""
    return dict(_pin.findall((ROOT / lock).read_text()))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def missing(requirements: list[str], lock: str) -> list[str]:
    """The requirements that the lock does not hold in a version that they allow."""
    # An extra of ours stands for what it names.
    extras = project()["optional-dependencies"]
    own = [extra for each in map(Requirement, requirements) if each.name == "muster" for extra in each.extras]
    if own:
        requirements = [text for text in requirements if Requirement(text).name != "muster"]
        return missing([*requirements, *(each for extra in own for each in extras[extra])], lock)
    locked = pins(lock)
    parsed = [Requirement(text) for text in requirements]
    return [
        str(each)
        for each in parsed
        if (version := locked.get(canonicalize_name(each.name))) is None or not each.specifier.contains(version)
    ]


class TestLocks:
    def test_the_service_is_locked_as_the_project_says(self) -> None:
        assert missing(project()["dependencies"], "requirements.lock") == []

    def test_development_is_locked_as_the_project_says(self) -> None:
        wanted = project()["dependencies"] + project()["optional-dependencies"]["dev"]
        assert missing(wanted, "requirements-dev.lock") == []

    def test_tests_run_on_what_is_deployed(self) -> None:
        assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()

    @pytest.mark.parametrize("lock", LOCKS)
    def test_every_package_has_hashes_and_no_lock_names_a_host(self, lock: str) -> None:
        text = (ROOT / lock).read_text()
        blocks = re.split(r"\n(?=\S)", text.strip())
        assert len(blocks) > 0
        assert [block for block in blocks if not _pin.match(block)] == []
        assert [block for block in blocks if "--hash=sha256:" not in block] == []
        assert "://" not in text


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


class TestCompose:
    def test_secrets_have_no_default(self, compose: dict[str, Any]) -> None:
        variables = re.findall(r"\$\{(\w+)([^}]*)\}", (ROOT / "docker-compose.yml").read_text())
        secrets = {(name, rest) for name, rest in variables if "PASSWORD" in name or "KEY" in name}
        assert {name for name, _ in secrets} == {
            "MUSTER_POSTGRES_PASSWORD",
            "MUSTER_SECRET_KEY",
            "MUSTER_ADMIN_PASSWORD",
        }
        assert all(rest == f":?set {name}" for name, rest in secrets)

    def test_no_service_has_a_password_of_its_own(self, compose: dict[str, Any]) -> None:
        for service in compose["services"].values():
            for name, value in service["environment"].items():
                if any(word in name for word in ("PASSWORD", "KEY", "URL")):
                    assert ":?" in value

    def test_the_administrators_password_is_given_to_the_api_alone(self, compose: dict[str, Any]) -> None:
        """What is generated instead would be printed, and what containers print is kept."""
        services = [
            name for name, each in compose["services"].items() if "MUSTER_ADMIN_PASSWORD" in each["environment"]
        ]
        assert services == ["api"]
        assert (
            compose["services"]["migrate"]["environment"].items() <= compose["services"]["api"]["environment"].items()
        )

    def test_the_api_waits_for_the_database_and_the_migration(self, compose: dict[str, Any]) -> None:
        conditions = {name: each["condition"] for name, each in compose["services"]["api"]["depends_on"].items()}
        assert conditions == {"postgres": "service_healthy", "migrate": "service_completed_successfully"}
        assert compose["services"]["migrate"]["command"] == ["muster", "migrate"]

    @pytest.mark.parametrize("service", ["postgres", "api"])
    def test_what_goes_on_running_is_watched(self, compose: dict[str, Any], service: str) -> None:
        assert compose["services"][service]["healthcheck"]["test"][0] == "CMD"

    def test_the_data_is_in_named_volumes(self, compose: dict[str, Any]) -> None:
        assert compose["services"]["postgres"]["volumes"] == ["postgres-data:/var/lib/postgresql/data"]
        assert set(compose["volumes"]) == {"postgres-data", "api-data"}

    def test_only_this_machine_reaches_it(self, compose: dict[str, Any]) -> None:
        ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)

    @pytest.mark.parametrize("service", ["postgres", "migrate", "api"])
    def test_containers_have_no_more_rights_than_they_need(self, compose: dict[str, Any], service: str) -> None:
        settings = compose["services"][service]
        assert settings["read_only"] is True
        assert settings["cap_drop"] == ["ALL"]
        assert settings["security_opt"] == ["no-new-privileges:true"]


class TestImage:
    @pytest.fixture
    def stages(self) -> list[list[tuple[str, str]]]:
        """The Dockerfile's stages, each as its instructions and their arguments."""
        text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
        lines = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
        stages: list[list[tuple[str, str]]] = []
        for instruction, _, arguments in lines:
            if instruction == "FROM":
                stages.append([])
            stages[-1].append((instruction, arguments))
        return stages

    def test_it_runs_as_a_user_with_a_fixed_id(self, stages: list[list[tuple[str, str]]]) -> None:
        assert [arguments for instruction, arguments in stages[-1] if instruction == "USER"] == ["10001:10001"]

    def test_packages_are_checked_against_their_hashes(self, stages: list[list[tuple[str, str]]]) -> None:
        installs = [arguments for stage in stages for _, arguments in stage if "pip install" in arguments]
        assert len(installs) == 2
        assert "--require-hashes" in installs[0]
        assert "--no-deps" in installs[1]
        assert not any("pip install" in arguments for _, arguments in stages[-1])

    def test_it_serves_and_is_watched(self, stages: list[list[tuple[str, str]]]) -> None:
        final = dict(stages[-1])
        assert final["CMD"] == '["muster", "serve", "--host", "0.0.0.0", "--no-migrate"]'
        assert "/health/live" in final["HEALTHCHECK"]
        assert final["VOLUME"] == "/data"

    def test_everything_that_it_copies_is_sent_to_the_builder(self, stages: list[list[tuple[str, str]]]) -> None:
        sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
        copied = [
            source for instruction, arguments in stages[0] if instruction == "COPY" for source in arguments.split()[:-1]
        ]
        assert copied
        for source in copied:
            assert source in sent
            assert (ROOT / source).exists()
