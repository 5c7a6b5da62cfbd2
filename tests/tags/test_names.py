"""What a tag may be called."""

import pytest

from app.errors import FieldError
from app.tags.names import MAX_TAGS, tag_name, tag_names, tags


class TestTagName:
    @pytest.mark.parametrize("text", ["core", "  core ", "tier 1", "核心", "it's", "a" * 100])
    def test_is_taken_trimmed(self, text: str) -> None:
        assert tag_name(text) == text.strip()

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("", "required"),
            ("  ", "required"),
            ("a" * 101, "too_long"),
            ("a|b", "invalid_format"),
            ("a;b", "invalid_format"),
            ("a\nb", "invalid_format"),
            ("a\x00b", "invalid_format"),
            ("a\ud800b", "invalid_format"),
        ],
    )
    def test_is_refused(self, text: str, code: str) -> None:
        with pytest.raises(FieldError) as refusal:
            tag_name(text)
        assert refusal.value.code == code


class TestTags:
    def test_are_split_trimmed_distinct_and_sorted(self) -> None:
        assert tags(" web | core;web||; ") == ("core", "web")

    def test_of_an_empty_cell_are_none(self) -> None:
        assert tags("") == ()

    def test_have_a_limit(self) -> None:
        names = [f"tag-{number}" for number in range(MAX_TAGS + 1)]
        assert len(tag_names(names[:-1])) == MAX_TAGS
        with pytest.raises(FieldError, match="at most 50 tags, not 51"):
            tag_names(names)
