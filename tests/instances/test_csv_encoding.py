"""Which encoding an uploaded file is read in."""

import codecs
from pathlib import Path

import pytest

from app.instances.csv_encoding import READ_BYTES, undecodable_line
from app.instances.csv_file import FileFault
from tests.instances.judging import described, judge, refusal


class TestEncoding:
    @pytest.mark.parametrize(
        ("codec", "reported"),
        [
            ("utf-8", "utf-8"),
            ("utf-8-sig", "utf-8"),
            ("utf-16", "utf-16"),
            ("utf-16-le", "utf-16-le"),
            ("utf-16-be", "utf-16-be"),
            ("gb18030", "gb18030"),
        ],
    )
    def test_it_is_detected_and_reported(self, tmp_path: Path, codec: str, reported: str) -> None:
        judged = judge(tmp_path, described("北京核心数据库", "订单 😀").encode(codec))
        assert judged.whole.encoding == reported
        assert judged.descriptions() == ["北京核心数据库", "订单 😀"]

    def test_utf_16_be_with_a_mark(self, tmp_path: Path) -> None:
        judged = judge(tmp_path, codecs.BOM_UTF16_BE + described("核心").encode("utf-16-be"))
        assert (judged.whole.encoding, judged.descriptions()) == ("utf-16", ["核心"])

    @pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
    def test_utf_16_without_a_mark_is_told_by_the_header(self, tmp_path: Path, codec: str) -> None:
        mostly_chinese = described(*["库" * 400] * 10)
        assert judge(tmp_path, mostly_chinese.encode(codec)).whole.encoding == codec

    @pytest.mark.parametrize(
        "text",
        [
            "für Köln", "Übergrößenträger", "Größe", "Ångström", "são paulo", "naïve façade", "garçon déjà vu",
            "Ærø og Åland", "señor año", "“quoted” – dash", "50 €", "£5", "ü", "Málaga y Córdoba", "coração",
            "Zürich, Genève, Neuchâtel",
        ],
    )  # fmt: skip
    def test_words_in_cp1252_stay_what_they_are(self, tmp_path: Path, text: str) -> None:
        judged = judge(tmp_path, described(f'"{text}"').encode("cp1252"))
        assert (judged.whole.encoding, judged.descriptions()) == ("cp1252", [text])

    @pytest.mark.parametrize(
        "text", ["生产库", "核心", "库", "北京，上海", "数据库 prod 主", "備份資料庫", "訂單", "㐂 朱镕基", "😀"]
    )
    def test_words_in_gb18030_stay_what_they_are(self, tmp_path: Path, text: str) -> None:
        judged = judge(tmp_path, described(text).encode("gb18030"))
        assert (judged.whole.encoding, judged.descriptions()) == ("gb18030", [text])

    @pytest.mark.parametrize(
        ("requested", "codec", "reported"),
        [
            ("utf8", "utf-8", "utf-8"),
            ("utf-8", "utf-8-sig", "utf-8"),
            ("utf-16", "utf-16", "utf-16"),
            ("utf-16", "utf-16-be", "utf-16-be"),
            ("utf-16-le", "utf-16-le", "utf-16-le"),
            ("gbk", "gb18030", "gb18030"),
            ("gb2312", "gb18030", "gb18030"),
            ("windows-1252", "cp1252", "cp1252"),
            ("latin-1", "cp1252", "cp1252"),
        ],
    )
    def test_the_one_asked_for_is_taken(self, tmp_path: Path, requested: str, codec: str, reported: str) -> None:
        judged = judge(tmp_path, described("é").encode(codec), requested)
        assert (judged.whole.encoding, judged.descriptions()) == (reported, ["é"])

    @pytest.mark.parametrize(("requested", "mark"), [("utf-16-le", codecs.BOM_UTF16_LE), ("gbk", b"\x84\x31\x95\x33")])
    def test_a_mark_is_no_part_of_the_header(self, tmp_path: Path, requested: str, mark: bytes) -> None:
        codec = "gb18030" if requested == "gbk" else requested
        assert judge(tmp_path, mark + described("é").encode(codec), requested).descriptions() == ["é"]

    @pytest.mark.parametrize(
        ("requested", "codec", "line"),
        [("utf-8", "gb18030", 3), ("utf-8", "cp1252", 3), ("gb18030", "cp1252", 3), ("utf-16-be", "utf-16-le", None)],
    )
    def test_the_wrong_one_is_refused_with_the_line(
        self, tmp_path: Path, requested: str, codec: str, line: int | None
    ) -> None:
        refused = refusal(tmp_path, described("plain", "ÖÖ 1ü").encode(codec, "replace") + b"\xff\xff", requested)
        assert refused.fault is FileFault.UNPARSABLE
        assert refused.details
        if line is not None:
            assert refused.details[0].line == line
            assert str(line) in refused.message

    @pytest.mark.parametrize("data", [b"x", b"\x00\x00", b"\xff", described("plain").encode()])
    def test_utf_16_that_is_none(self, tmp_path: Path, data: bytes) -> None:
        assert refusal(tmp_path, data, "utf-16").fault is FileFault.UNPARSABLE

    def test_utf_32_is_refused_by_name(self, tmp_path: Path) -> None:
        assert "UTF-32" in refusal(tmp_path, described("é").encode("utf-32")).message

    def test_bytes_of_no_encoding_are_refused_with_the_line(self, tmp_path: Path) -> None:
        # 0x81 is nothing in cp1252, 0xff nothing in GB18030.
        refused = refusal(tmp_path, described("plain").encode() + b"b,pg,h,\x81\xff\n")
        assert (refused.fault, refused.details[0].line) == (FileFault.UNPARSABLE, 3)


class TestDamage:
    """A file that is UTF-8 but for a few bytes must not be read as another encoding: its text would be garbled."""

    def test_a_file_cut_inside_a_character(self, tmp_path: Path) -> None:
        refused = refusal(tmp_path, described("核心", "数据")[:-1].encode()[:-1])
        assert refused.details[0].line == 3
        assert "cut" in refused.message

    def test_one_foreign_line_among_many(self, tmp_path: Path) -> None:
        data = described(*["für Köln"] * 5).encode() + "x,pg,x,für\n".encode("cp1252")
        assert refusal(tmp_path, data).details[0].line == 7

    def test_asking_for_an_encoding_reads_it_all_the_same(self, tmp_path: Path) -> None:
        data = described(*["für"] * 5).encode() + "x,pg,x,für\n".encode("cp1252")
        assert judge(tmp_path, data, "cp1252").descriptions()[-1] == "für"


class TestUndecodableLine:
    @pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
    def test_every_kind_of_line_break_counts(self, tmp_path: Path, line_break: str) -> None:
        (tmp_path / "upload").write_bytes(f"a{line_break}b{line_break}c".encode() + b"\xff")
        assert undecodable_line(tmp_path / "upload", "utf-8") == 3

    def test_bytes_inside_characters_are_no_line_breaks(self, tmp_path: Path) -> None:
        # U+4E0A has the byte of a line feed in UTF-16.
        (tmp_path / "upload").write_bytes("上上\n上".encode("utf-16-le") + b"\x00\xd8\x00\x00")
        assert undecodable_line(tmp_path / "upload", "utf-16-le") == 2

    @pytest.mark.parametrize("before_the_edge", [0, 1, 2])
    def test_pieces_may_end_anywhere(self, tmp_path: Path, before_the_edge: int) -> None:
        filling = "x" * (READ_BYTES - 2 - before_the_edge) + "\r\n"
        (tmp_path / "upload").write_bytes(filling.encode() + "核".encode())
        assert undecodable_line(tmp_path / "upload", "utf-8") is None
        (tmp_path / "upload").write_bytes(filling.encode() + "核".encode()[:2] + b"\n")
        assert undecodable_line(tmp_path / "upload", "utf-8") == 2
