import pytest

from app.commands.event_stream import Event, events_of

TWO = b"event: progress\nid: 1\ndata: {}\n\n: ping\n\nevent: done\ndata: a\ndata:  b\nid: 2\n\n"
READ = [Event("progress", "{}", "1"), Event("done", "a\n b", "2")]


class TestEvents:
    def test_name_data_and_id(self) -> None:
        assert list(events_of([TWO])) == READ

    @pytest.mark.parametrize("size", [1, 2, 7])
    def test_they_are_the_same_in_whatever_pieces_they_come(self, size: int) -> None:
        assert list(events_of(TWO[start : start + size] for start in range(0, len(TWO), size))) == READ

    def test_lines_may_end_in_crlf(self) -> None:
        assert list(events_of([TWO.replace(b"\n", b"\r\n")])) == READ

    def test_what_only_unicode_calls_the_end_of_a_line_is_data(self) -> None:
        text = "x\u2028y\x85z\x0b"
        assert list(events_of([f"data: {text}\n\n".encode()])) == [Event("message", text, None)]

    def test_a_character_may_be_cut_in_two(self) -> None:
        line = "data: 数\n\n".encode()
        assert list(events_of([line[:7], line[7:]])) == [Event("message", "数", None)]

    def test_one_that_is_cut_off_is_none(self) -> None:
        assert list(events_of([b"data: 1\n\ndata: 2\n"])) == [Event("message", "1", None)]

    def test_the_id_stays_and_the_name_does_not(self) -> None:
        assert list(events_of([b"id: 7\nevent: a\ndata: 1\n\ndata: 2\n\n"])) == [
            Event("a", "1", "7"),
            Event("message", "2", "7"),
        ]

    def test_an_event_without_data_is_none(self) -> None:
        assert list(events_of([b"event: progress\nid: 3\nretry: 10\n\n"])) == []
