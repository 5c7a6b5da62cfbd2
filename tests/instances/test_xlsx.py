"""Excel workbooks: told by their content, read by the rules of a CSV, and bounded before they are unpacked."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.instances import xlsx_file
from app.instances.csv_file import FileFault
from app.instances.judged_rows import BadRow
from tests.instances.importing import Report, import_csv, instances
from tests.instances.judging import judge, refusal
from tests.instances.workbooks import Cell, packed, parts_of, sheet_xml, workbook

HEADER = ("name", "db_type", "host", "port", "description", "is_active")


def rows_of(directory: Path, *rows: tuple[Cell, ...]) -> list[tuple[object, ...]]:
    judged = judge(directory, workbook(HEADER, *rows))
    return [(row.name, row.host, row.port, row.description, row.is_active) for row in judged.good()]


def description_of(directory: Path, value: Cell) -> str | None:
    [(*_, description, _)] = rows_of(directory, ("a", "pg", "h", None, value))
    assert description is None or isinstance(description, str)
    return description


class TestRows:
    def test_what_the_report_says_of_the_file(self, tmp_path: Path) -> None:
        whole = judge(tmp_path, workbook(HEADER, ("a", "pg", "h"))).whole
        assert (whole.encoding, whole.delimiter, whole.rows) == ("xlsx", "", 1)
        assert whole.columns == set(HEADER)

    def test_an_encoding_that_is_asked_for_changes_nothing(self, tmp_path: Path) -> None:
        assert judge(tmp_path, workbook(HEADER, ("数据库", "pg", "h")), "gb18030").good()[0].name == "数据库"

    def test_whole_numbers_have_no_point(self, tmp_path: Path) -> None:
        rows = rows_of(tmp_path, ("a", "pg", "h", 3306.0, 15, True), ("b", "pg", "i", "3307", 1.5, False))
        assert rows == [("a", "h", 3306, "15", True), ("b", "i", 3307, "1.5", False)]

    @pytest.mark.parametrize(
        ("cell", "text"),
        [
            (1e21, "1000000000000000000000"),
            (0.1, "0.1"),
            (True, "true"),
            ('<s="1"><v>45000</v>', "2023-03-15"),
            ('<s="2"><v>45000.5</v>', "2023-03-15T12:00:00"),
            ('<t="d"><v>2024-01-02</v>', "2024-01-02"),
            ("<><f>1+1</f><v>2</v>", "2"),
            ('<t="str"><f>"x"&amp;"y"</f><v>xy</v>', "xy"),
            ('<t="e"><v>#N/A</v>', "#N/A"),
            ("<s='0' t='e'><v>#REF!</v>", "#REF!"),
            ("<><f>1+1</f>", None),
            (' t="e" is no type', 't="e" is no type'),
            ("a & b < c > d", "a & b < c > d"),
            ("'=1+1", "=1+1"),
        ],
    )
    def test_cells_are_the_texts_of_a_csv(self, tmp_path: Path, cell: Cell, text: str | None) -> None:
        assert description_of(tmp_path, cell) == text

    def test_shared_texts(self, tmp_path: Path) -> None:
        parts = parts_of(sheet_xml({1: HEADER, 2: ("a", "pg", "h", None, '<t="s"><v>1</v>')}))
        parts["xl/_rels/workbook.xml.rels"] = parts["xl/_rels/workbook.xml.rels"].replace(
            "</Relationships>",
            '<Relationship Id="s" Type="x/sharedStrings" Target="/xl/sharedStrings.xml"/></Relationships>',
        )
        parts["xl/sharedStrings.xml"] = (
            '<sst><si><t>none</t></si><si><r><t xml:space="preserve">two </t></r><r><t>runs</t></r></si></sst>'
        )
        assert judge(tmp_path, packed(parts)).descriptions() == ["two runs"]

    def test_every_error_of_a_row_is_told(self, tmp_path: Path) -> None:
        [row] = judge(tmp_path, workbook(HEADER, ("a b", "pg", "h", 70000, "x" * 501, "x"))).rows
        assert isinstance(row, BadRow)
        assert [error.column for error in row.errors] == ["name", "port", "description", "is_active"]
        assert row.errors[1].value == "70000"

    def test_cells_beyond_the_header(self, tmp_path: Path) -> None:
        judged = judge(tmp_path, workbook(HEADER[:3], ("a", "pg", "h", None, "surplus"), ("b", "pg", "i")))
        assert isinstance(judged.rows[0], BadRow)
        assert [error.code for error in judged.rows[0].errors] == ["too_many_cells"]
        assert judged.lines() == [2, 3]


class TestLines:
    def test_they_are_the_sheets_own(self, tmp_path: Path) -> None:
        rows = {
            4: ("name", "db_type", "host"),
            5: ("a", "pg", "h"),
            9: ("b", "pg", "i"),
            10: (" ", None),
            12: ("c", "pg", "j"),
        }
        assert judge(tmp_path, packed(parts_of(sheet_xml(rows, first_column=3)))).lines() == [5, 9, 12]

    def test_rows_and_cells_without_references(self, tmp_path: Path) -> None:
        def row(*cells: str) -> str:
            return "<row>" + "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in cells) + "</row>"

        sheet = f"<worksheet><sheetData>{row('name', 'db_type', 'host')}{row('a', 'pg', 'h')}</sheetData></worksheet>"
        judged = judge(tmp_path, packed(parts_of(sheet)))
        assert [(row.line, row.name, row.host) for row in judged.good()] == [(2, "a", "h")]


class TestSheets:
    def test_the_first_is_taken(self, tmp_path: Path) -> None:
        first, second = (sheet_xml({1: HEADER, 2: (name, "pg", "h")}) for name in ("first", "second"))
        assert judge(tmp_path, packed(parts_of(first, second))).good()[0].name == "first"

    def test_one_that_is_a_chart_is_none(self, tmp_path: Path) -> None:
        parts = parts_of(sheet_xml({1: HEADER, 2: ("a", "pg", "h")}), chart_first=True)
        assert judge(tmp_path, packed(parts)).good()[0].name == "a"

    def test_what_stands_in_the_others_does_not_count(self, tmp_path: Path) -> None:
        far = sheet_xml({1_048_576: ("x",)}, first_column=16_384)
        judged = judge(tmp_path, packed(parts_of(sheet_xml({1: HEADER, 2: ("a", "pg", "h")}), far)))
        assert judged.lines() == [2]

    @pytest.mark.parametrize("rows", [{}, {1: ()}, {3: (" ",)}, {1: HEADER}])
    def test_one_without_rows(self, tmp_path: Path, rows: dict[int, tuple[Cell, ...]]) -> None:
        assert refusal(tmp_path, packed(parts_of(sheet_xml(rows)))).fault is FileFault.EMPTY

    def test_a_workbook_without_any(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, packed(parts_of())).fault is FileFault.EMPTY

    def test_a_header_that_is_not_accepted_names_its_row(self, tmp_path: Path) -> None:
        refused = refusal(tmp_path, workbook(("name", "db_type", "hots"), ("a", "pg", "h"), first_row=3))
        assert [(detail.code, detail.line) for detail in refused.details] == [
            ("missing_column", 3),
            ("unknown_column", 3),
        ]


def without(path: str) -> dict[str, str]:
    return {name: part for name, part in parts_of(sheet_xml({1: HEADER, 2: ("a", "pg", "h")})).items() if name != path}


def with_part(path: str, content: str) -> dict[str, str]:
    return without(path) | {path: content}


def with_a_password() -> bytes:
    """What Office writes: not a zip archive, but an older container that holds one encrypted."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1_000) + "EncryptedPackage".encode("utf-16-le") + bytes(100)


def zip_with_a_password() -> bytes:
    data = bytearray(packed(without("")))
    position = -1
    while (position := data.find(b"PK\x01\x02", position + 1)) >= 0:
        data[position + 8] |= 1
    return bytes(data)


class TestRefused:
    @pytest.mark.parametrize(
        ("parts", "fault", "words"),
        [
            ({"mimetype": "application/vnd.oasis.opendocument"}, FileFault.TYPE_NOT_ACCEPTED, "zip archive"),
            ({"a.txt": "x"}, FileFault.TYPE_NOT_ACCEPTED, "zip archive"),
            (with_part("xl/workbook.xml", "<document/>"), FileFault.TYPE_NOT_ACCEPTED, "no Excel workbook"),
            (
                with_part("_rels/.rels", '<a><Relationship Type="a/officeDocument" Target="xl/workbook.bin"/></a>'),
                FileFault.TYPE_NOT_ACCEPTED,
                "xlsb",
            ),
            (without("xl/worksheets/sheet1.xml"), FileFault.UNPARSABLE, "damaged"),
            (without("xl/workbook.xml"), FileFault.UNPARSABLE, "damaged"),
            (without("_rels/.rels"), FileFault.UNPARSABLE, "damaged"),
            (with_part("xl/worksheets/sheet1.xml", "<worksheet><sheetData><row>"), FileFault.UNPARSABLE, "damaged"),
            (with_part("xl/worksheets/sheet1.xml", "no XML"), FileFault.UNPARSABLE, "damaged"),
            (with_part("xl/styles.xml", "<styleSheet>"), FileFault.UNPARSABLE, "damaged"),
            (with_part("xl/workbook.xml", "<!DOCTYPE a []><workbook/>"), FileFault.UNPARSABLE, "damaged"),
        ],
    )  # fmt: skip
    def test_by_what_is_in_the_archive(
        self, tmp_path: Path, parts: dict[str, str], fault: FileFault, words: str
    ) -> None:
        refused = refusal(tmp_path, packed(parts))
        assert refused.fault is fault
        assert words in refused.message

    @pytest.mark.parametrize("data", [with_a_password(), zip_with_a_password()], ids=["container", "archive"])
    def test_with_a_password(self, tmp_path: Path, data: bytes) -> None:
        refused = refusal(tmp_path, data)
        assert refused.fault is FileFault.UNPARSABLE
        assert "password" in refused.message

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
    def test_cut_off(self, tmp_path: Path, share: float) -> None:
        data = workbook(HEADER, *((f"n{number}", "pg", f"h{number}") for number in range(100)))
        refused = refusal(tmp_path, data[: int(len(data) * share)])
        assert refused.fault is FileFault.UNPARSABLE

    def test_with_a_byte_changed_anywhere_it_is_read_or_refused(self, tmp_path: Path) -> None:
        data = bytearray(workbook(HEADER, ("a", "pg", "h")))
        for position in range(4, len(data), 7):
            changed = bytes(data[:position]) + bytes([data[position] ^ 0x55]) + bytes(data[position + 1 :])
            try:
                judge(tmp_path, changed)
            except xlsx_file.FileRefused:
                continue

    def test_nothing_is_left_in_the_directory(self, tmp_path: Path) -> None:
        refusal(tmp_path, packed(without("xl/workbook.xml")))
        assert {path.name for path in tmp_path.iterdir()} <= {"upload", "frames"}


class TestBombs:
    @pytest.mark.parametrize(
        "cell",
        [
            '<c r="XFD1048576"><v>1</v></c>',
            '<c r="xfd1048576"><v>1</v></c>',
            "<c s='>' r='XFD1048576'><v>1</v></c>",
            '<x:c r = "XFD1048576" xmlns:x="m"><x:is/></x:c>',
            '<c r="A2000000"><v>1</v></c><c r="C3"><v>1</v></c>',
        ],
    )
    def test_a_value_far_away(self, tmp_path: Path, cell: str) -> None:
        refused = refusal(
            tmp_path, packed(parts_of(f"<worksheet><sheetData><row>{cell}</row></sheetData></worksheet>"))
        )
        assert refused.fault is FileFault.UNPARSABLE
        assert "4,000,000 cells" in refused.message

    def test_formats_far_away_are_no_values(self, tmp_path: Path) -> None:
        sheet = sheet_xml({1: HEADER, 2: ("a", "pg", "h")}).replace(
            "</sheetData>", '<row r="1048576"><c r="XFD1048576" s="1"/></row></sheetData>'
        )
        assert judge(tmp_path, packed(parts_of(sheet))).lines() == [2]

    def test_as_many_cells_as_are_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(xlsx_file, "MAX_CELLS", 9)
        rows = [("name", "db_type", "host"), ("a", "pg", "h"), ("b", "pg", "i")]
        assert judge(tmp_path, workbook(*rows)).lines() == [2, 3]
        assert "9 cells" in refusal(tmp_path, workbook(*rows, ("c", "pg", "j"))).message

    def test_the_same_cell_again_and_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(xlsx_file, "MAX_CELLS", 100)
        cells = '<c r="A1"><v>1</v></c>' * 101
        refused = refusal(
            tmp_path, packed(parts_of(f"<worksheet><sheetData><row>{cells}</row></sheetData></worksheet>"))
        )
        assert refused.fault is FileFault.UNPARSABLE

    def test_what_unpacks_to_more_than_the_limit(self, tmp_path: Path) -> None:
        data = packed(with_part("xl/worksheets/sheet1.xml", "<worksheet>" + " " * (xlsx_file.MAX_INFLATED_BYTES + 1)))
        assert len(data) < 1024 * 1024
        refused = refusal(tmp_path, data)
        assert refused.fault is FileFault.UNPARSABLE
        assert "512 MiB" in refused.message

    def test_a_size_that_is_a_lie(self, tmp_path: Path) -> None:
        """The archive says that a part is small; only so much of it is read, and it is not whole."""
        data = bytearray(workbook(HEADER, *((f"n{number}", "pg", "h") for number in range(1_000))))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            info = archive.getinfo("xl/worksheets/sheet1.xml")
        for position in places_of(bytes(data), info.file_size.to_bytes(4, "little")):
            data[position : position + 4] = (200).to_bytes(4, "little")
        assert refusal(tmp_path, bytes(data)).fault is FileFault.UNPARSABLE


def places_of(data: bytes, wanted: bytes) -> Iterator[int]:
    position = -1
    while (position := data.find(wanted, position + 1)) >= 0:
        yield position


class TestImport:
    async def test_like_a_csv(self, client: httpx.AsyncClient) -> None:
        rows = [("my-01", "mysql", "my.example", 3306), ("bad name", "mysql", "x"), ("pg-01", "pg", "pg.example", None)]
        data = workbook(HEADER, *rows, first_row=2)
        answer = await client.post(
            "/api/v1/instances/batch-create", files={"file": ("named-so.csv", data, "text/csv")}, data={}
        )
        report = Report(answer.json())
        assert (report.body["encoding"], report.body["delimiter"]) == ("xlsx", "")
        assert report.statuses() == {3: "created", 4: "invalid", 5: "created"}
        assert set(await instances(client)) == {"my-01", "pg-01"}

    async def test_again_it_changes_nothing(self, client: httpx.AsyncClient) -> None:
        data = workbook(HEADER, ("my-01", "mysql", "my.example", 3306, "=1+1"))
        assert (await import_csv(client, data)).counts == {"rows": 1, "created": 1}
        assert (await import_csv(client, data, on_existing="update")).counts == {"rows": 1, "unchanged": 1}
