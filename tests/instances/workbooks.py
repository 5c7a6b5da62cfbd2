"""Excel workbooks, written part by part, for the tests of what reads them."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
# The second is a date, the third a moment.
_STYLES = (
    f'<styleSheet {_MAIN}><numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy-mm-dd hh:mm:ss"/></numFmts>'
    '<cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/></cellXfs></styleSheet>'
)

Cell = str | int | float | bool | None


def reference(row: int, column: int) -> str:
    """`A1` for 1, 1."""
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return f"{letters}{row}"


def cell_xml(row: int, column: int, value: Cell) -> str:
    """A text that begins with `<` is the inside of a `c` element as it is, with attributes: `<t="e"><v>#N/A</v>`."""
    place = reference(row, column)
    match value:
        case None:
            return ""
        case bool():
            return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
        case int() | float():
            return f'<c r="{place}"><v>{value}</v></c>'
        case str() if value.startswith("<"):
            attributes, _, inside = value[1:].partition(">")
            return f'<c r="{place}" {attributes}>{inside}</c>'
        case _:
            return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'


def sheet_xml(rows: Mapping[int, Sequence[Cell]], first_column: int = 1) -> str:
    """By row number, its cells from the first column on."""
    written = "".join(
        f'<row r="{row}">{"".join(cell_xml(row, first_column + n, cell) for n, cell in enumerate(cells))}</row>'
        for row, cells in rows.items()
    )
    return f"<worksheet {_MAIN}><sheetData>{written}</sheetData></worksheet>"


def parts_of(*sheets: str, chart_first: bool = False) -> dict[str, str]:
    """A workbook's parts by path."""
    kinds = ["worksheet"] * len(sheets)
    paths = [f"worksheets/sheet{number}.xml" for number in range(1, len(sheets) + 1)]
    contents = list(sheets)
    if chart_first:
        kinds.insert(0, "chartsheet")
        paths.insert(0, "chartsheets/sheet1.xml")
        contents.insert(0, f"<chartsheet {_MAIN}/>")
    names = "".join(
        f'<sheet name="Sheet{number}" sheetId="{number}" r:id="rId{number}"/>' for number in range(1, len(paths) + 1)
    )
    relations = "".join(
        f'<Relationship Id="rId{number}" Type="{_RELATIONS}/{kind}" Target="{path}"/>'
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True), 1)
    )
    relations += f'<Relationship Id="styles" Type="{_RELATIONS}/styles" Target="styles.xml"/>'
    return {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"/>',
        "_rels/.rels": (
            f'<Relationships xmlns="{_PACKAGE}/relationships">'
            f'<Relationship Id="rId1" Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
        ),
        "xl/workbook.xml": f'<workbook {_MAIN} xmlns:r="{_RELATIONS}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{relations}</Relationships>',
        "xl/styles.xml": _STYLES,
        **{f"xl/{path}": content for path, content in zip(paths, contents, strict=True)},
    }


def packed(parts: Mapping[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, part in parts.items():
            archive.writestr(path, part)
    return content.getvalue()


def workbook(*rows: Sequence[Cell], first_row: int = 1, first_column: int = 1) -> bytes:
    """A workbook of one sheet."""
    return packed(parts_of(sheet_xml(dict(enumerate(rows, first_row)), first_column)))
