"""How records become rows and row errors: the header, the fit of the cells, every column's rule."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.instances.csv_file import FileFault, FileRefused
from app.instances.csv_rows import COLUMNS
from app.instances.judged_rows import BadRow, GoodRow
from tests.instances.judging import judge, refusal

REQUIRED = "name,db_type,host"


def good_row(directory: Path, cells: str, columns: str = REQUIRED) -> GoodRow:
    [row] = judge(directory, f"{columns}\n{cells}\n".encode()).good()
    return row


def errors_of(directory: Path, cells: str, columns: str = REQUIRED) -> list[tuple[str | None, str]]:
    [row] = judge(directory, f"{columns}\n{cells}\n".encode()).rows
    assert isinstance(row, BadRow), row
    return [(error.column, error.code) for error in row.errors]


def with_cell(column: str, cell: str) -> tuple[str, str]:
    """The cells and the header of a row that is good but for this cell."""
    cells = {"name": "a", "db_type": "pg", "host": "h.example", column: '"' + cell.replace('"', '""') + '"'}
    return ",".join(cells.values()), ",".join(cells)


class TestHeader:
    @pytest.mark.parametrize("header", ["HOST , Db_Type,\tNAME", ' host," db_type ",name', "host,db_type,name"])
    def test_any_order_and_case_with_spaces(self, tmp_path: Path, header: str) -> None:
        row = good_row(tmp_path, "h.example,pg,a", header)
        assert (row.name, row.db_type, row.host) == ("a", "postgresql", "h.example")

    def test_empty_cells_behind_the_last_column_are_ignored(self, tmp_path: Path) -> None:
        assert good_row(tmp_path, "a,pg,h,,", f"{REQUIRED},, ").name == "a"
        assert errors_of(tmp_path, "a,pg,h,x,", f"{REQUIRED},, ") == [(None, "too_many_cells")]

    def test_every_fault_is_told_at_once(self, tmp_path: Path) -> None:
        refused = refusal(tmp_path, b"name,nmae,host,host,enviroment\nx\n")
        assert refused.fault is FileFault.UNPARSABLE
        assert [(detail.column, detail.code, detail.line) for detail in refused.details] == [
            ("db_type", "missing_column", 1),
            ("host", "repeated_column", 1),
            ("nmae", "unknown_column", 1),
            ("enviroment", "unknown_column", 1),
        ]
        assert "nearest is name" in refused.details[2].message
        assert "nearest is environment" in refused.details[3].message

    def test_repeated_in_another_case(self, tmp_path: Path) -> None:
        refused = refusal(tmp_path, f"{REQUIRED}, HOST\n".encode())
        assert [(detail.column, detail.code) for detail in refused.details] == [("host", "repeated_column")]
        assert "2 times" in refused.message

    def test_the_line_is_that_of_the_header(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, b"\n\nname,host\na,b\n").details[0].line == 3

    def test_a_column_without_a_name(self, tmp_path: Path) -> None:
        assert "number 2" in refusal(tmp_path, b"name,,db_type,host\na,,pg,h\n").message

    def test_unknown_columns_can_be_ignored(self, tmp_path: Path) -> None:
        data = f"owner,{REQUIRED},note,\nme,a,pg,h,x,y\n".encode()
        judged = judge(tmp_path, data, ignore_unknown_columns=True)
        assert [row.name for row in judged.good()] == ["a"]
        assert judged.whole.columns == {"name", "db_type", "host"}

    def test_ignoring_unknown_columns_forgives_nothing_else(self, tmp_path: Path) -> None:
        with pytest.raises(FileRefused) as refused:
            judge(tmp_path, b"name,name,host,note\n", ignore_unknown_columns=True)
        assert [detail.code for detail in refused.value.details] == ["missing_column", "repeated_column"]

    def test_a_hundred_columns(self, tmp_path: Path) -> None:
        others = ",".join(f"extra_{number}" for number in range(97))
        data = f"{others},{REQUIRED}\n{',' * 97}a,pg,h\n".encode()
        refused = refusal(tmp_path, data)
        assert len(refused.details) == 97
        assert len(refused.message) < 500
        assert [row.name for row in judge(tmp_path, data, ignore_unknown_columns=True).good()] == ["a"]

    def test_a_header_of_ten_thousand_cells(self, tmp_path: Path) -> None:
        assert len(refusal(tmp_path, b",".join([b"x"] * 10_000)).details) <= 1_004

    def test_a_name_of_a_megabyte_is_cut(self, tmp_path: Path) -> None:
        refused = refusal(tmp_path, f"{REQUIRED},{'x' * 1_000_000}\n".encode())
        assert len(refused.message) < 1_000
        assert len(refused.details[0].value or "") == 201


class TestFit:
    def test_missing_trailing_cells_are_empty(self, tmp_path: Path) -> None:
        row = good_row(tmp_path, "a,pg,h", ",".join(COLUMNS))
        assert (row.port, row.environment, row.sync_policy) == (5432, "production", "off")
        assert (row.is_active, row.deletion_protection, row.tags) == (True, False, ())
        assert (row.database_name, row.description, row.credential) == (None, None, None)

    def test_extra_empty_cells_are_ignored(self, tmp_path: Path) -> None:
        assert good_row(tmp_path, "a,pg,h,, ,\t").name == "a"

    def test_extra_cells_with_content_are_too_many(self, tmp_path: Path) -> None:
        [row] = judge(tmp_path, f"{REQUIRED}\na,pg,h,,surplus,more\n".encode()).rows
        assert isinstance(row, BadRow)
        assert row.name == "a"
        assert (row.errors[0].column, row.errors[0].code, row.errors[0].value) == (None, "too_many_cells", "surplus")
        assert "6 cells" in row.errors[0].message

    def test_cells_are_trimmed(self, tmp_path: Path) -> None:
        row = good_row(tmp_path, " a ,\tpg , h.example ,  x y  ", REQUIRED + ",description")
        assert (row.name, row.host, row.description) == ("a", "h.example", "x y")

    def test_all_errors_of_a_row_at_once(self, tmp_path: Path) -> None:
        cells = ",".join(
            ["bad name", "sybase", "", "70000", "d" * 65, "x" * 501, "qa", "c" * 101, "t" * 101, "often", "maybe", "2"]
        )
        assert errors_of(tmp_path, cells + ",surplus", ",".join(COLUMNS)) == [
            (None, "too_many_cells"),
            ("name", "invalid_format"),
            ("db_type", "unknown_value"),
            ("host", "required"),
            ("port", "out_of_range"),
            ("database_name", "too_long"),
            ("description", "too_long"),
            ("environment", "unknown_value"),
            ("credential", "too_long"),
            ("tags", "too_long"),
            ("sync_policy", "unknown_value"),
            ("is_active", "unknown_value"),
            ("deletion_protection", "unknown_value"),
        ]

    def test_a_cell_of_ten_megabytes(self, tmp_path: Path) -> None:
        data = f"{REQUIRED},description\na,pg,h,{'x' * 10_000_000}\nb,pg,h2,fine\n".encode()
        first, second = judge(tmp_path, data).rows
        assert isinstance(first, BadRow)
        assert (first.errors[0].column, first.errors[0].code) == ("description", "too_long")
        assert "10000000" in first.errors[0].message
        assert first.errors[0].value == "x" * 200 + "…"
        assert isinstance(second, GoodRow)

    @pytest.mark.parametrize("column", COLUMNS)
    @pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f"])
    def test_no_column_takes_control_characters(self, tmp_path: Path, column: str, character: str) -> None:
        cells, header = with_cell(column, f"1{character}1")
        assert [each for each, _ in errors_of(tmp_path, cells, header)] == [column]


class TestNames:
    @pytest.mark.parametrize("name", ["a", "_x", "9", "a.b-c_d", "核心-01", "x" * 100])
    def test_accepted(self, tmp_path: Path, name: str) -> None:
        assert good_row(tmp_path, f"{name},pg,h").name == name

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("", "required"), (" ", "required"), ("x" * 101, "too_long"), ("a b", "invalid_format"),
            (".a", "invalid_format"), ("-a", "invalid_format"), ("é", "invalid_format"), ("a/b", "invalid_format"),
            ("ａ", "invalid_format"), ('"a\nb"', "invalid_format"), ("😀", "invalid_format"),
        ],
    )  # fmt: skip
    def test_refused(self, tmp_path: Path, name: str, code: str) -> None:
        assert errors_of(tmp_path, f"{name},pg,h") == [("name", code)]


class TestTypes:
    @pytest.mark.parametrize(
        ("text", "kind", "port"),
        [
            ("mysql", "mysql", 3306), ("MariaDB", "mariadb", 3306), ("postgres", "postgresql", 5432),
            ("PG", "postgresql", 5432), ("PostgreSQL", "postgresql", 5432), ("mssql", "sqlserver", 1433),
            ("sqlserver", "sqlserver", 1433), ("Oracle", "oracle", 1521), ("redis", "redis", 6379),
            ("MongoDB", "mongodb", 27017),
        ],
    )  # fmt: skip
    def test_aliases_and_default_ports(self, tmp_path: Path, text: str, kind: str, port: int) -> None:
        row = good_row(tmp_path, f"a,{text},h")
        assert (row.db_type, row.port) == (kind, port)

    def test_the_endpoint_of_oracle_has_its_service(self, tmp_path: Path) -> None:
        columns = REQUIRED + ",database_name"
        assert good_row(tmp_path, "a,oracle,h,ORCL", columns).endpoint_key == "oracle:h:1521/ORCL"
        assert good_row(tmp_path, "a,oracle,h,", columns).endpoint_key == "oracle:h:1521/"
        assert good_row(tmp_path, "a,pg,h,orders", columns).endpoint_key == "postgresql:h:5432"


class TestHosts:
    @pytest.mark.parametrize(
        ("text", "host"),
        [
            ("DB-01.Example.COM", "db-01.example.com"), ("db.example.", "db.example"), ("my_host", "my_host"),
            ("localhost", "localhost"), ("10.0.0.1", "10.0.0.1"), ("2001:DB8:0:0::0:7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"), ("::1", "::1"), ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
            ("::FFFF:0a00:0001", "::ffff:10.0.0.1"), ("1and1.example", "1and1.example"), ("x" * 63, "x" * 63),
        ],
    )  # fmt: skip
    def test_canonical_form(self, tmp_path: Path, text: str, host: str) -> None:
        assert good_row(tmp_path, f"a,pg,{text}").host == host

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("", "required"), ("x" * 256, "too_long"), ("a b", "invalid_format"), ("256.0.0.1", "invalid_format"),
            ("10.0.0", "invalid_format"), ("10.0.0.01", "invalid_format"), ("1234", "invalid_format"),
            ("fe80::1%eth0", "invalid_format"), ("db:3306", "invalid_format"), ("http://db", "invalid_format"),
            ("-db", "invalid_format"), ("db-", "invalid_format"), ("a..b", "invalid_format"), (".", "invalid_format"),
            ("x" * 64, "invalid_format"), ("数据库", "invalid_format"), ("db..", "invalid_format"),
        ],
    )  # fmt: skip
    def test_refused(self, tmp_path: Path, text: str, code: str) -> None:
        assert errors_of(tmp_path, f"a,pg,{text}") == [("host", code)]


class TestPorts:
    @pytest.mark.parametrize(("text", "port"), [("1", 1), ("65535", 65535), ("03306", 3306), ("", 5432), (" 7 ", 7)])
    def test_accepted(self, tmp_path: Path, text: str, port: int) -> None:
        assert good_row(tmp_path, f"a,pg,h,{text}", REQUIRED + ",port").port == port

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("0", "out_of_range"), ("65536", "out_of_range"), ("-1", "out_of_range"), ("9" * 5_000, "out_of_range"),
            ("3306.0", "invalid_format"), ("1e3", "invalid_format"), ("0x10", "invalid_format"),
            ("３３０６", "invalid_format"), ("33 06", "invalid_format"), ("1_000", "invalid_format"),
        ],
    )  # fmt: skip
    def test_refused(self, tmp_path: Path, text: str, code: str) -> None:
        assert errors_of(tmp_path, f"a,pg,h,{text}", REQUIRED + ",port") == [("port", code)]


class TestFlags:
    @pytest.mark.parametrize("column", ["is_active", "deletion_protection"])
    def test_every_spelling(self, tmp_path: Path, column: str) -> None:
        true, false = ["true", "TRUE", "Yes", "1", "是"], ["false", "No", "NO", "0", "否"]
        text = f"{REQUIRED},{column}\n" + "".join(
            f"a{number},pg,h{number}, {cell} \n" for number, cell in enumerate(true + false)
        )
        values = [getattr(row, column) for row in judge(tmp_path, text.encode()).good()]
        assert values == [True] * 5 + [False] * 5

    @pytest.mark.parametrize("cell", ["t", "on", "2", "真", "truefalse"])
    def test_refused(self, tmp_path: Path, cell: str) -> None:
        assert errors_of(tmp_path, f"a,pg,h,{cell}", REQUIRED + ",is_active") == [("is_active", "unknown_value")]


class TestTags:
    def tags(self, directory: Path, cell: str) -> tuple[str, ...]:
        return good_row(directory, *with_cell("tags", cell)).tags

    def test_separators_order_and_repetition(self, tmp_path: Path) -> None:
        assert self.tags(tmp_path, " gold|oltp ;核心| gold;;|") == ("gold", "oltp", "核心")

    def test_names_may_hold_commas_and_spaces(self, tmp_path: Path) -> None:
        assert self.tags(tmp_path, "a, b|c d") == ("a, b", "c d")

    def test_limits(self, tmp_path: Path) -> None:
        assert len(self.tags(tmp_path, "|".join(f"t{number}" for number in range(50)))) == 50
        assert self.tags(tmp_path, "t" * 100) == ("t" * 100,)
        fifty_one = "|".join(f"t{number}" for number in range(51))
        assert errors_of(tmp_path, *with_cell("tags", fifty_one)) == [("tags", "out_of_range")]
        assert errors_of(tmp_path, *with_cell("tags", "fine|" + "t" * 101)) == [("tags", "too_long")]


class TestTexts:
    @pytest.mark.parametrize(
        ("cell", "text"),
        [
            ("'=1+1", "=1+1"), ("'+1", "+1"), ("'-1", "-1"), ("'@x", "@x"), ("''=x", "'=x"), ("=1+1", "=1+1"),
            ("'plain", "'plain"), ("'", "'"), ("", None), ("a\nb\tc", "a\nb\tc"),
        ],
    )  # fmt: skip
    def test_formulas_are_restored(self, tmp_path: Path, cell: str, text: str | None) -> None:
        assert good_row(tmp_path, *with_cell("description", cell)).description == text

    def test_values_of_choices(self, tmp_path: Path) -> None:
        row = good_row(tmp_path, "a,pg,h,TESTING,Daily", REQUIRED + ",environment,sync_policy")
        assert (row.environment, row.sync_policy) == ("testing", "daily")


class TestAnyText:
    @given(st.text(max_size=60), st.sampled_from(COLUMNS))
    @example("\ud7ff\ue000\ufffe\uffff", "description")
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_every_cell_is_judged(self, tmp_path: Path, cell: str, column: str) -> None:
        cells, header = with_cell(column, cell)
        if "\r" in cell or "\n" in cell:
            cells = cells.replace("\r", " ").replace("\n", " ")
        [row] = judge(tmp_path, f"{header}\n{cells}\n".encode()).rows
        assert row.line == 2
