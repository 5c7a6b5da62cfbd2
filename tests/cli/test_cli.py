import pytest

import app.cli
from tests.cli.conftest import Muster


class TestMuster:
    def test_tells_its_version(self, muster: Muster) -> None:
        assert muster(["--version"]).stdout == "muster 0.1.0\n"

    def test_without_a_command_it_tells_what_there_is(self, muster: Muster) -> None:
        result = muster([])
        assert result.exit_code == 2
        for command in ("import", "delete", "export", "serve", "migrate", "rotate-key", "user", "audit"):
            assert f"\n  {command} " in result.output

    def test_an_error_that_nobody_foresaw_is_2_and_not_1(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(app.cli, "cli", fail)
        with pytest.raises(SystemExit) as ended:
            app.cli.main()
        assert ended.value.code == 2
        assert "ZeroDivisionError" in capsys.readouterr().err
