"""How an uploaded file is read: its type, its delimiter, its records."""

import codecs
import gzip
import io
import pickle
import zipfile
from pathlib import Path

import pytest

from app.instances.csv_file import FileFault
from app.instances.judged_rows import BadRow, GoodRow
from tests.instances.judging import HEADER, described, judge, refusal


class TestType:
    def test_a_zip_and_a_workbook(self, tmp_path: Path) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("xl/workbook.xml", "<workbook/>")
        refused = refusal(tmp_path, packed.getvalue())
        assert (refused.fault, "Excel" in refused.message) == (FileFault.TYPE_NOT_ACCEPTED, True)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x89PNG\r\n\x1a\n" + bytes(32),
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
            gzip.compress(HEADER.encode(), mtime=0),
            b"%PDF-1.7\n",
            b"SQLite format 3\x00" + bytes(100),
            b"PK\x05\x06" + bytes(18),
            b"\xff\xd8\xff\xe0" + bytes(32),
        ],
    )
    def test_other_types(self, tmp_path: Path, data: bytes) -> None:
        assert refusal(tmp_path, data).fault is FileFault.TYPE_NOT_ACCEPTED
        assert refusal(tmp_path, data, "utf-8").fault is FileFault.TYPE_NOT_ACCEPTED


class TestEmptiness:
    @pytest.mark.parametrize(
        "data",
        [
            b"", b" ", b"\n\r\n \t\n", b"\n" * 10_000, codecs.BOM_UTF8, codecs.BOM_UTF8 + b"\n\n",
            codecs.BOM_UTF16_LE, "\n\n".encode("utf-16"),
        ],
    )  # fmt: skip
    def test_nothing_but_whitespace(self, tmp_path: Path, data: bytes) -> None:
        assert refusal(tmp_path, data).fault is FileFault.EMPTY

    @pytest.mark.parametrize("header", [HEADER, HEADER.strip(), HEADER + "\n\n", "\n" + HEADER])
    def test_a_header_alone(self, tmp_path: Path, header: str) -> None:
        assert refusal(tmp_path, header.encode()).fault is FileFault.EMPTY

    def test_many_blank_lines_before_the_header_are_none(self, tmp_path: Path) -> None:
        judged = judge(tmp_path, b"\n" * 10_000 + described("x").encode())
        assert judged.lines() == [10_002]


class TestDialect:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_delimiters(self, tmp_path: Path, delimiter: str) -> None:
        text = described("a", "b").replace(",", delimiter)
        judged = judge(tmp_path, text.encode())
        assert (judged.whole.delimiter, judged.descriptions()) == (delimiter, ["a", "b"])

    def test_other_delimiters_inside_cells_do_not_mislead(self, tmp_path: Path) -> None:
        judged = judge(tmp_path, b'name;db_type;host;description\na;pg;h;"1,2,3,4,5|6|7"\n')
        assert (judged.whole.delimiter, judged.descriptions()) == (";", ["1,2,3,4,5|6|7"])

    @pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
    def test_line_breaks(self, tmp_path: Path, line_break: str) -> None:
        text = HEADER + '\na,pg,h1,"x\ny\n"\n\n\nb,pg,h2,z'
        judged = judge(tmp_path, text.replace("\n", line_break).encode())
        assert judged.lines() == [3, 8]
        assert judged.descriptions() == [f"x{line_break}y", "z"]

    def test_the_header_may_hold_line_breaks_too(self, tmp_path: Path) -> None:
        assert judge(tmp_path, b'name,db_type,"host\n"\na,pg,h\n').lines() == [3]

    def test_doubled_quotes(self, tmp_path: Path) -> None:
        assert judge(tmp_path, described('"say ""hi"", twice"').encode()).descriptions() == ['say "hi", twice']

    def test_separators_of_unicode_are_no_line_breaks(self, tmp_path: Path) -> None:
        judged = judge(tmp_path, described("a\u2028b\u2029c\u0085d", "next").encode())
        assert judged.lines() == [2, 3]


class TestBrokenRecords:
    def test_a_file_cut_inside_a_quoted_cell(self, tmp_path: Path) -> None:
        first, second = judge(tmp_path, described("whole", '"cut\nin the mid').encode()).rows
        assert isinstance(first, GoodRow)
        assert isinstance(second, BadRow)
        assert (second.line, second.errors[0].column, second.errors[0].code) == (3, None, "invalid_format")
        assert "never closed" in second.errors[0].message

    def test_a_file_cut_inside_a_row(self, tmp_path: Path) -> None:
        whole, cut = judge(tmp_path, described("whole").encode() + b"next,postg").rows
        assert isinstance(whole, GoodRow)
        assert isinstance(cut, BadRow)
        assert [(error.column, error.code) for error in cut.errors] == [
            ("db_type", "unknown_value"),
            ("host", "required"),
        ]

    def test_text_after_a_closing_quote_costs_that_row_only(self, tmp_path: Path) -> None:
        rows = judge(tmp_path, described('"a"b', "fine").encode()).rows
        assert [type(row) for row in rows] == [BadRow, GoodRow]

    def test_a_header_that_cannot_be_read(self, tmp_path: Path) -> None:
        refused = refusal(tmp_path, b'name,db_type,"host\n')
        assert (refused.fault, "line 1" in refused.message) == (FileFault.UNPARSABLE, True)


class TestRefusal:
    def test_it_survives_the_way_between_processes(self, tmp_path: Path) -> None:
        refused = refusal(tmp_path, b"a,b\n1,2\n")
        again = pickle.loads(pickle.dumps(refused))
        assert (again.fault, again.message, again.details) == (refused.fault, refused.message, refused.details)
