import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import Result

from app.commands import delete_instances
from tests.cli.conftest import Muster, problem


class Registry:
    """Answers prechecks and deletions of instances 1 to 1,000; 2 is protected, and the ids above do not exist."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, object]]] = []
        self.fails_at: Callable[[int], httpx.Response] | None = None
        self.max_ids = 10_000

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        path = request.url.path.removeprefix("/api/v1/instances/")
        if len(body["instance_ids"]) > self.max_ids:
            error = {"pointer": "/body/instance_ids", "code": "too_long", "message": "too many"}
            return problem(422, errors=[error])
        self.requests.append((path, body))
        if path == "batch-delete/precheck":
            return httpx.Response(200, json=self._plan(body["instance_ids"]))
        if self.fails_at is not None and self.paths.count("batch-delete") > 1:
            return self.fails_at(len(self.requests))
        return httpx.Response(200, json=self._report(body))

    def _plan(self, ids: list[int]) -> dict[str, object]:
        known = [each for each in ids if each <= 1000]
        blocked = known.count(2)
        return {
            "plan_token": f"token-{ids[0]}",
            "expires_at": "2026-11-22T12:00:00Z",
            "mode": "hard",
            "counts": {
                "requested": len(ids),
                "deletable": len(known) - blocked,
                "blocked": blocked,
                "missing": len(ids) - len(known),
            },
            "rows": {"instance_accounts": 20 * len(known), "instance_tags": 0},
            "items": [{"instance_id": each, "name": f"db-{each}", "blockers": self._blockers(each)} for each in known],
            "missing": [each for each in ids if each > 1000],
        }

    def _blockers(self, instance_id: int) -> list[dict[str, str]]:
        return [{"code": "deletion_protected", "message": "it is protected"}] if instance_id == 2 else []

    def _report(self, body: dict[str, object]) -> dict[str, object]:
        ids = body["instance_ids"]
        assert isinstance(ids, list)
        items = [self._item(each) for each in ids]
        counts = {
            status: sum(item["status"] == status for item in items)
            for status in ("deleted", "missing", "blocked", "failed")
        }
        deleted = counts["deleted"]
        return {
            "outcome": "complete" if deleted == len(ids) else "partial" if deleted else "failed",
            "mode": body["mode"],
            "dry_run": body["dry_run"],
            "counts": {"requested": len(ids), **counts},
            "rows_deleted": {"instance_accounts": 20 * deleted, "instances": deleted},
            "items": items,
        }

    def _item(self, instance_id: int) -> dict[str, object]:
        if instance_id > 1000:
            return {"instance_id": instance_id, "status": "missing"}
        item: dict[str, object] = {"instance_id": instance_id, "name": f"db-{instance_id}"}
        if instance_id == 2:
            return {**item, "status": "blocked", "blockers": self._blockers(2)}
        if instance_id == 3:
            error = {"code": 25010, "message": "the database went away"}
            return {**item, "status": "failed", "error": error, "retryable": True}
        return {**item, "status": "deleted", "rows_deleted": {"instance_accounts": 20}}


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delete_instances, "_can_ask", lambda: True)


class TestReport:
    def test_all_deleted_is_0(self, muster: Muster, registry: Registry) -> None:
        result = muster(["delete", 5, 6, "--mode", "hard", "--yes"], registry)
        assert result.exit_code == 0
        assert "complete: 2 deleted of 2 ids; 42 rows removed" in result.stdout

    def test_what_was_not_deleted_is_1_and_told(self, muster: Muster, registry: Registry) -> None:
        result = muster(["delete", 1, 2, 3, 1001, "--yes"], registry)
        assert result.exit_code == 1
        assert "2         deletion_protected  it is protected" in result.stdout
        assert "3         25010               the database went away (running the command again can" in result.stdout
        assert "1001      missing             there is no such instance" in result.stdout
        assert "partial: 1 deleted, 1 blocked, 1 missing, 1 failed of 4 ids" in result.stdout

    def test_nothing_deleted_is_1(self, muster: Muster, registry: Registry) -> None:
        result = muster(["delete", 1001, "--yes"], registry)
        assert result.exit_code == 1
        assert "failed: 1 missing of 1 ids" in result.stdout

    def test_the_problems_file_has_names_and_statuses(self, muster: Muster, registry: Registry, tmp_path: Path) -> None:
        target = tmp_path / "problems.csv"
        muster(["delete", 1, 2, 1001, "--yes", "--problems", target], registry)
        assert target.read_text().splitlines() == [
            "instance,name,status,code,message",
            "2,db-2,blocked,deletion_protected,it is protected",
            "1001,,missing,missing,there is no such instance",
        ]

    def test_a_dry_run_shows_the_rows_and_deletes_nothing(self, muster: Muster, registry: Registry) -> None:
        result = muster(["delete", 1, "--mode", "hard", "--dry-run"], registry)
        assert result.exit_code == 0
        assert registry.paths == ["batch-delete"]
        assert registry.requests[0][1]["dry_run"] is True
        assert "instance_accounts  20" in result.stdout
        assert "complete (dry run: nothing was deleted)" in result.stdout


class TestIds:
    def ids_of(self, registry: Registry) -> list[object]:
        return [each for _, body in registry.requests for each in body["instance_ids"]]  # type: ignore[attr-defined]

    def test_from_a_file_one_a_line_each_once(self, muster: Muster, registry: Registry, tmp_path: Path) -> None:
        path = tmp_path / "ids.txt"
        path.write_text("\ufeff7\n 8 \r\n\n7\n9")
        assert muster(["delete", 8, "--from-file", path, "--yes"], registry).exit_code == 0
        assert self.ids_of(registry) == [8, 7, 9]

    @pytest.mark.parametrize("arguments", [["-"], ["--from-file", "-"]])
    def test_from_standard_input(self, muster: Muster, registry: Registry, arguments: list[str]) -> None:
        assert muster(["delete", *arguments, "--yes"], registry, "5\n6\n").exit_code == 0
        assert self.ids_of(registry) == [5, 6]

    @pytest.mark.parametrize("text", ["abc", "0", "1.5", "１２", "9" * 20])
    def test_what_is_no_id_is_2_with_its_line(
        self, muster: Muster, registry: Registry, tmp_path: Path, text: str
    ) -> None:
        path = tmp_path / "ids.txt"
        path.write_text(f"1\n{text}\n", encoding="utf-8")
        result = muster(["delete", "--from-file", path, "--yes"], registry)
        assert result.exit_code == 2
        assert f"line 2 of {path}: an id is a whole number from 1, not {text[:40]!r}" in result.stderr
        assert registry.requests == []

    def test_a_file_that_is_no_text_is_2(self, muster: Muster, registry: Registry, tmp_path: Path) -> None:
        path = tmp_path / "ids.xlsx"
        path.write_bytes(b"PK\x03\x04\xff\xfe")
        assert muster(["delete", "--from-file", path, "--yes"], registry).exit_code == 2

    def test_a_missing_file_is_2(self, muster: Muster, registry: Registry, tmp_path: Path) -> None:
        result = muster(["delete", "--from-file", tmp_path / "none.txt", "--yes"], registry)
        assert result.exit_code == 2
        assert "none.txt: No such file or directory" in result.stderr

    def test_no_ids_at_all_is_2(self, muster: Muster, registry: Registry) -> None:
        assert muster(["delete", "-", "--yes"], registry, "\n").exit_code == 2


class TestQuestion:
    def ask(self, muster: Muster, registry: Registry, said: str, *more: object) -> Result:
        return muster(["delete", 1, 2, 1001, "--mode", "hard", *more], registry, said)

    @pytest.mark.usefixtures("terminal")
    def test_the_plan_is_shown_first(self, muster: Muster, registry: Registry) -> None:
        shown = self.ask(muster, registry, "n\n").stdout
        assert "instance_accounts  40" in shown
        assert "instance_tags" not in shown
        assert "2         deletion_protected  it is protected" in shown
        assert "hard deletion of 3 ids: 1 deletable, 1 blocked, 1 missing" in shown
        assert "Delete 1 instances for good, with all their rows? [y/N]" in shown

    @pytest.mark.usefixtures("terminal")
    def test_no_deletes_nothing_and_is_2(self, muster: Muster, registry: Registry) -> None:
        result = self.ask(muster, registry, "n\n")
        assert result.exit_code == 2
        assert "nothing was deleted" in result.stderr
        assert registry.paths == ["batch-delete/precheck"]

    @pytest.mark.usefixtures("terminal")
    def test_yes_deletes_what_was_shown_by_its_plan_token(self, muster: Muster, registry: Registry) -> None:
        assert self.ask(muster, registry, "y\n", "--force").exit_code == 1
        path, body = registry.requests[1]
        assert path == "batch-delete"
        assert body == {
            "instance_ids": [1, 2, 1001],
            "mode": "hard",
            "force": True,
            "dry_run": False,
            "plan_token": "token-1",
            "background": "auto",
        }

    @pytest.mark.usefixtures("terminal")
    def test_an_end_of_input_is_an_interruption(self, muster: Muster, registry: Registry) -> None:
        assert self.ask(muster, registry, "").exit_code == 130

    def test_without_a_terminal_it_refuses(self, muster: Muster, registry: Registry) -> None:
        result = self.ask(muster, registry, "y\n")
        assert result.exit_code == 2
        assert "say --yes" in result.stderr
        assert registry.paths == ["batch-delete/precheck"]

    def test_where_nothing_can_be_deleted_it_does_not_ask(self, muster: Muster, registry: Registry) -> None:
        result = muster(["delete", 2, 1001], registry)
        assert result.exit_code == 1
        assert "failed: 1 blocked, 1 missing of 2 ids" in result.stdout

    @pytest.mark.usefixtures("terminal")
    def test_with_json_people_are_asked_on_standard_error(self, muster: Muster, registry: Registry) -> None:
        result = self.ask(muster, registry, "y\n", "--json")
        assert json.loads(result.stdout)["counts"]["requested"] == 3
        assert "for good" in result.stderr


class TestSlices:
    @pytest.fixture(autouse=True)
    def slices_of_200(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(delete_instances, "IDS_PER_REQUEST", 200)

    def test_ids_go_in_slices_and_come_back_as_one_report(self, muster: Muster, registry: Registry) -> None:
        result = muster(["delete", *range(1, 451), "--mode", "hard", "--yes", "--json"], registry)
        assert [len(body["instance_ids"]) for _, body in registry.requests] == [200, 200, 50]  # type: ignore[arg-type]
        report = json.loads(result.stdout)
        assert report["outcome"] == "partial"
        assert report["counts"] == {"requested": 450, "deleted": 448, "missing": 0, "blocked": 1, "failed": 1}
        assert report["rows_deleted"] == {"instance_accounts": 8960, "instances": 448}
        assert [item["instance_id"] for item in report["items"]] == list(range(1, 451))
        assert report["items"][0] == {
            "instance_id": 1,
            "name": "db-1",
            "status": "deleted",
            "rows_deleted": {"instance_accounts": 20},
        }

    @pytest.mark.usefixtures("terminal")
    def test_each_slice_has_its_own_plan_token(self, muster: Muster, registry: Registry) -> None:
        muster(["delete", *range(4, 404)], registry, "y\n")
        tokens = [body.get("plan_token") for path, body in registry.requests if path == "batch-delete"]
        assert tokens == ["token-4", "token-204"]

    def test_what_is_more_than_the_server_takes_is_halved_in_its_order(
        self, muster: Muster, registry: Registry
    ) -> None:
        registry.max_ids = 100
        result = muster(["delete", *range(4, 354), "--yes", "--json"], registry)
        sizes = [len(body["instance_ids"]) for _, body in registry.requests]  # type: ignore[arg-type]
        assert sizes == [100, 100, 75, 75]
        assert [item["instance_id"] for item in json.loads(result.stdout)["items"]] == list(range(4, 354))

    @pytest.mark.usefixtures("terminal")
    def test_a_halved_slice_is_deleted_as_it_was_planned(self, muster: Muster, registry: Registry) -> None:
        registry.max_ids = 100
        muster(["delete", *range(4, 204)], registry, "y\n")
        deletions = [body for path, body in registry.requests if path == "batch-delete"]
        assert [(len(body["instance_ids"]), body["plan_token"]) for body in deletions] == [  # type: ignore[arg-type]
            (100, "token-4"),
            (100, "token-104"),
        ]

    def test_one_id_that_is_too_many_is_2(self, muster: Muster, registry: Registry) -> None:
        registry.max_ids = 0
        assert muster(["delete", 5, 6, "--yes"], registry).exit_code == 2

    def test_a_later_slice_that_fails_leaves_the_report_of_the_earlier(
        self, muster: Muster, registry: Registry
    ) -> None:
        registry.fails_at = lambda count: problem(412, title="Precondition failed", detail="the plan is stale")
        result = muster(["delete", *range(4, 454), "--yes"], registry)
        assert result.exit_code == 2
        assert "complete: 200 deleted of 200 ids" in result.stdout
        assert "250 ids are not in this report" in result.stdout
        assert "Precondition failed (412): the plan is stale" in result.stderr

    def test_an_interruption_leaves_the_report_too(self, muster: Muster, registry: Registry) -> None:
        def interrupted(count: int) -> httpx.Response:
            raise KeyboardInterrupt

        registry.fails_at = interrupted
        result = muster(["delete", *range(4, 454), "--yes", "--json"], registry)
        assert result.exit_code == 130
        assert json.loads(result.stdout)["counts"]["deleted"] == 200


class TestFailure:
    def test_a_problem_is_2(self, muster: Muster) -> None:
        result = muster(["delete", 1, "--yes", "--json"], lambda request: problem(422, detail="too many ids"))
        assert result.exit_code == 2
        assert json.loads(result.stdout)["detail"] == "too many ids"

    def test_no_server_is_2(self, muster: Muster) -> None:
        assert muster(["delete", 1, "--yes"]).exit_code == 2
