"""What a user may be called."""

import pytest

from app.errors import FieldError
from app.users.names import canonical, username


class TestUsername:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("jane", "jane"),
            ("  Jane.Doe ", "jane.doe"),
            ("JANE@EXAMPLE.COM", "jane@example.com"),
            ("ｊａｎｅ", "jane"),
            ("7", "7"),
            ("jane\n", "jane"),
            ("a_b-c.d", "a_b-c.d"),
            ("a" * 100, "a" * 100),
        ],
    )
    def test_is_stored_in_one_form(self, text: str, name: str) -> None:
        assert username(text) == name

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("", "required"),
            ("  ", "required"),
            ("a" * 101, "too_long"),
            ("-jane", "invalid_format"),
            (".jane", "invalid_format"),
            ("jane doe", "invalid_format"),
            ("jané", "invalid_format"),
            ("ja\nne", "invalid_format"),
            ("jane\x00", "invalid_format"),
            ("张三", "invalid_format"),
            ("\ud800", "invalid_format"),
        ],
    )
    def test_is_refused(self, text: str, code: str) -> None:
        with pytest.raises(FieldError) as refusal:
            username(text)
        assert refusal.value.code == code

    def test_forms_that_are_one_account(self) -> None:
        assert canonical("ＡDMIN") == canonical("admin ") == "admin"
