"""Who may import whom, read from the source; the rules are those of the architecture, as data.

A part is a package or a module directly below `app`. What a rule forbids and the code still does stands in an
exemption with its reason, and an exemption that nothing needs any more fails too.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
APP = ROOT / "app"

_values = {"errors", "pagination", "fields", "preconditions", "caller", "csv_cells", "csv_answers"}
_foundation = {
    "config", "database", "background", "turns", "planner", "taken_names", "key_file", "body_limit", *_values
}  # fmt: skip
_access = {*_foundation, "models"}
_audit = {*_access, "access"}
_users = {*_audit, "audit"}
_spaces = {*_users, "users", "operations"}
_named = {*_spaces, "spaces"}
_instances = {*_named, "tags", "credentials"}
_known = {*_instances, "instances"}
_found = {*_known, "inventory"}
_synced = {*_found, "capacity", "classifications"}
_process = {"logs", "migration", "middleware", "call_middleware", "garbage"}
_services = {*_synced, *_process, "syncs", "databases", "health"}
_everything = {*_services, "main", "commands"}

MAY_IMPORT: Mapping[str, set[str]] = {
    "config": set(),
    "errors": set(),
    "pagination": set(),
    "database": {"config"},
    "models": {"caller"},
    "access": _access,
    "audit": _audit,
    "operations": {*_audit, "audit"},
    "users": _users,
    "spaces": _spaces,
    "tags": _named,
    "credentials": _named,
    "instances": _instances,
    "inventory": _known,
    "capacity": _found,
    "classifications": _found,
    "syncs": _synced,
    "databases": _synced,
    "health": {*_foundation, "access", "operations"},
    # Composition roots; the commands are what `cli` consists of.
    "composition": _services,
    "housekeeping": {*_services, "composition"},
    "main": {*_services, "composition", "housekeeping"},
    "worker": {*_services, "composition", "housekeeping"},
    "worker_process": {*_process, "config", "worker"},
    "cli": _everything,
    "commands": {*_everything, "worker", "worker_process"},
    # Of the foundation: what holds for any value, header, body, log line or migration, whatever its domain.
    "fields": {"errors", "pagination"},
    "preconditions": {"errors"},
    "taken_names": {"database", "errors"},
    "planner": {"database"},
    "background": set(),
    "turns": set(),
    "csv_cells": set(),
    "csv_answers": set(),
    "body_limit": {"errors"},
    # Who is calling is a fact about the process's present work, like the time: it needs nothing of ours.
    "caller": set(),
    "call_middleware": {"caller"},
    "middleware": {"config", "errors", "body_limit", "call_middleware"},
    "key_file": set(),
    "garbage": set(),
    "logs": set(),
    "migration": set(),
}

# (importing part or module, imported part or module): why it is allowed all the same.
EXEMPT: Mapping[tuple[str, str], str] = {
    ("pagination", "errors"): "an error is declared beside its rule or in the tree; a bad cursor's is in the tree",
}

RAISES_HTTP_EXCEPTION: Mapping[str, str] = {
    "body_limit": "it interrupts the framework's own reading of a body, which passes on no other kind of error",
}


@dataclass(frozen=True)
class Module:
    """`name` is dotted, without `app`."""

    name: str
    tree: ast.Module

    @property
    def part(self) -> str:
        return self.name.split(".", maxsplit=1)[0]

    @property
    def kind(self) -> str:
        """`routes`, `schemas`, `repository`, or `other`; the file's name tells."""
        last = self.name.rsplit(".", maxsplit=1)[-1]
        suffix = last.rsplit("_", maxsplit=1)[-1]
        return suffix if suffix in ("routes", "schemas", "repository") else "other"


@cache
def modules() -> Mapping[str, Module]:
    found = {}
    for path in sorted(APP.rglob("*.py")):
        parts = path.relative_to(APP).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[name] = Module(name, ast.parse(path.read_text(), str(path)))
    return found


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """By module, the modules of ours that it imports, wherever in the file."""
    return {name: frozenset(_imported(module.tree)) - {name} for name, module in modules().items()}


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (_known_module(alias.name) for alias in node.names if alias.name.split(".")[0] == "app")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module is not None and node.module.split(".")[0] == "app":
                yield from (_known_module(f"{node.module}.{alias.name}") for alias in node.names)


def _known_module(dotted: str) -> str:
    """The module that `app.a.b.name` comes from: `a.b.name` where that is one, else `a.b`."""
    name = dotted.removeprefix("app").removeprefix(".")
    return name if name in modules() else name.rpartition(".")[0]


def edges() -> Iterator[tuple[Module, Module]]:
    """(importing module, imported module)."""
    for name, targets in imports().items():
        for target in sorted(targets):
            yield modules()[name], modules()[target]


def is_exempt(importing: Module, imported: Module) -> bool:
    return any(pair in EXEMPT for pair in ((importing.part, imported.part), (importing.name, imported.name)))


class TestParts:
    def test_every_part_has_a_rule(self) -> None:
        assert {module.part for module in modules().values()} <= MAY_IMPORT.keys()

    def test_import_only_what_they_may(self) -> None:
        assert [
            f"{importing.name} imports {imported.name}"
            for importing, imported in edges()
            if importing.part != imported.part
            and imported.part not in MAY_IMPORT[importing.part]
            and not is_exempt(importing, imported)
        ] == []

    def test_the_rules_themselves_have_no_circle(self) -> None:
        domains = {part: targets - {part} for part, targets in MAY_IMPORT.items() if part not in ("cli", "commands")}
        assert _circle(domains) == []

    def test_the_modules_have_no_circle(self) -> None:
        assert _circle(imports()) == []

    def test_nobody_imports_a_composition_root(self) -> None:
        """But another one, as their rules have it."""
        roots = {"composition", "housekeeping", "main", "worker", "worker_process", "cli", "commands"}
        assert [
            f"{importing.name} imports {imported.name}"
            for importing, imported in edges()
            if imported.part in roots and importing.part not in roots
        ] == []

    def test_no_exemption_is_left_over(self) -> None:
        needed = {pair for importing, imported in edges() for pair in _pairs(importing, imported)}
        assert EXEMPT.keys() <= needed
        assert [pair for pair in EXEMPT if pair[1] in MAY_IMPORT.get(pair[0], ())] == []


def _pairs(importing: Module, imported: Module) -> Iterator[tuple[str, str]]:
    yield importing.part, imported.part
    yield importing.name, imported.name


def _circle(graph: Mapping[str, set[str] | frozenset[str]]) -> list[str]:
    """The nodes that are left when whatever imports nothing more has been taken away: those in or above a circle."""
    left = {name: set(targets) & graph.keys() for name, targets in graph.items()}
    while free := [name for name, targets in left.items() if not targets]:
        for name in free:
            del left[name]
        for targets in left.values():
            targets.difference_update(free)
    return sorted(left)


class TestLayers:
    """Inside a domain: routes -> service | batch_* -> repository -> models."""

    def test_only_routes_import_schemas(self) -> None:
        assert [
            f"{importing.name} imports {imported.name}"
            for importing, imported in edges()
            if imported.kind == "schemas" and importing.kind not in ("routes", "schemas")
        ] == []

    def test_only_composition_roots_import_routes_of_a_domain(self) -> None:
        assert [
            f"{importing.name} imports {imported.name}"
            for importing, imported in edges()
            if imported.kind == "routes" and importing.part not in ("main", imported.part)
        ] == []

    def test_only_routes_import_routes_of_their_own_domain(self) -> None:
        """Which share the dependencies that their calls declare."""
        assert [
            f"{importing.name} imports {imported.name}"
            for importing, imported in edges()
            if imported.kind == "routes" and importing.kind != "routes" and importing.part != "main"
        ] == []

    def test_routes_import_no_repository(self) -> None:
        assert [
            f"{importing.name} imports {imported.name}"
            for importing, imported in edges()
            if importing.kind == "routes" and imported.kind == "repository"
        ] == []

    def test_nobody_imports_another_domains_repository(self) -> None:
        assert [
            f"{importing.name} imports {imported.name}"
            for importing, imported in edges()
            if imported.kind == "repository" and importing.part != imported.part
        ] == []

    def test_a_repository_imports_nothing_that_uses_one(self) -> None:
        uses = {importing.name for importing, imported in edges() if imported.kind == "repository"}
        assert [
            f"{importing.name} imports {imported.name}"
            for importing, imported in edges()
            if importing.kind == "repository" and (imported.name in uses or imported.kind == "repository")
        ] == []

    def test_schemas_know_no_database(self) -> None:
        assert [
            f"{importing.name} imports {imported.name}"
            for importing, imported in edges()
            if importing.kind == "schemas" and (imported.part == "database" or imported.kind == "repository")
        ] == []

    def test_the_cascade_plan_imports_tables_only(self) -> None:
        assert {modules()[name].part for name in imports()["instances.cascade"]} == {"models"}


def _calls(name: str) -> list[str]:
    """Where a method or function of that name is called."""
    return [
        f"{module.name}:{node.lineno}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Attribute) and node.func.attr == name)
            or (isinstance(node.func, ast.Name) and node.func.id == name)
        )
    ]


class TestTransactions:
    def test_nobody_commits(self) -> None:
        """A `begin()` block or the request's dependency does."""
        assert _calls("commit") == []


class TestErrors:
    def test_nobody_raises_http_exceptions(self) -> None:
        assert {place.split(":")[0] for place in _calls("HTTPException")} == RAISES_HTTP_EXCEPTION.keys()

    def test_routes_never_catch(self) -> None:
        assert [
            f"{module.name}:{node.lineno}"
            for module in modules().values()
            if module.kind == "routes"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ExceptHandler)
        ] == []


class TestTheseTests:
    """They would be worth nothing if they saw nothing."""

    @pytest.mark.parametrize(
        ("importing", "imported"),
        [
            ("instances.batch_deletion", "instances.deletion_repository"),
            ("instances.routes", "instances.schemas"),
            ("commands.server", "main"),
            ("cli", "commands.server"),
        ],
    )
    def test_see_imports_of_every_form(self, importing: str, imported: str) -> None:
        assert imported in imports()[importing]

    def test_see_circles(self) -> None:
        assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
