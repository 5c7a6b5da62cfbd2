"""Keyset pages: a page costs the same at any depth, because it continues behind the last row instead of counting.

A cursor holds the sort it belongs to and the last row's sort value and id. It is opaque to clients; one that is not
ours, or that was made for another sort, is a 400.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Self, TypeVar

import orjson
from fastapi import Depends, Query
from pydantic import MISSING, BaseModel, Field
from sqlalchemy import ColumnElement, Integer, Select, bindparam, tuple_

from app.errors import InvalidCursor, ParameterError

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT")

MAX_PAGE_ITEMS = 200
DEFAULT_PAGE_ITEMS = 50
MAX_ID = 2**63 - 1
# What the column of a place in a list can hold.
MAX_POSITION = 2**31 - 1


class Page(BaseModel, Generic[ItemT]):
    items: list[ItemT]
    next_cursor: str | None
    total: int | MISSING = Field(MISSING, description="All matches; only with `include_total=true`")

    @classmethod
    def of(cls, items: list[ItemT], next_cursor: str | None, total: int | None) -> Self:
        """The page; a total of None, which was not asked for, is left out of the answer."""
        return cls(items=items, next_cursor=next_cursor, total=MISSING if total is None else total)


@dataclass(frozen=True, slots=True)
class PageRequest:
    limit: int
    cursor: str | None
    include_total: bool


# `async` keeps it on the event loop: FastAPI hands a plain function to a thread.
async def _page_request(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_ITEMS, description="Items on a page")] = DEFAULT_PAGE_ITEMS,
    cursor: Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before")] = None,
    include_total: Annotated[bool, Query(description="Count all matches too, which costs a scan")] = False,
) -> PageRequest:
    return PageRequest(limit, cursor, include_total)


PageQuery = Annotated[PageRequest, Depends(_page_request)]


@dataclass(frozen=True, slots=True)
class Sort:
    """One column of the whitelist and a direction; the id, in the same direction, breaks ties."""

    name: str
    column: ColumnElement[Any]
    id_column: ColumnElement[int]
    descending: bool

    @classmethod
    def parse(cls, raw: str, columns: Mapping[str, ColumnElement[Any]]) -> "Sort":
        """`name` or `-name` with a name from `columns`, which must hold `id`."""
        name = raw.removeprefix("-")
        column = columns.get(name)
        if column is None:
            allowed = ", ".join(columns)
            raise ParameterError(
                f"cannot sort by {name[:50]!r}; one of {allowed}, with a leading - for descending",
                members={
                    "errors": [{"pointer": "/query/sort", "code": "unknown_value", "message": f"one of {allowed}"}]
                },
            )
        return cls(name, column, columns["id"], raw.startswith("-"))

    def apply(self, statement: Select[Any], page: PageRequest) -> Select[Any]:
        """The statement's page, and one row more, which tells whether there is a next page."""
        after = None if page.cursor is None else self._decode(page.cursor)
        return self._continued(statement, after).limit(page.limit + 1)

    def prepare(self, statement: Select[Any], *, is_continued: bool) -> Select[Any]:
        """The same for any page, with parameters in the place of values; `parameters` has the values of one page."""
        after = (
            bindparam("after_key", None, type_=self.column.type),
            bindparam("after_id", None, type_=self.id_column.type),
        )
        return self._continued(statement, after if is_continued else None).limit(
            bindparam("row_limit", None, type_=Integer)
        )

    def parameters(self, page: PageRequest) -> dict[str, Any]:
        after = (
            {} if page.cursor is None else dict(zip(("after_key", "after_id"), self._decode(page.cursor), strict=True))
        )
        return {"row_limit": page.limit + 1, **after}

    def order(self, statement: Select[Any]) -> Select[Any]:
        return statement.order_by(*(key.desc() if self.descending else key.asc() for key in self._keys))

    def _continued(self, statement: Select[Any], after: tuple[Any, Any] | None) -> Select[Any]:
        if after is not None:
            keys = self._keys
            left, right = tuple_(*keys), tuple_(*after[-len(keys) :], types=[key.type for key in keys])
            statement = statement.where(left < right if self.descending else left > right)
        return self.order(statement)

    def cut(self, rows: Sequence[RowT], page: PageRequest) -> tuple[Sequence[RowT], str | None]:
        """The page's rows, and the cursor of the next page if there is one."""
        if len(rows) <= page.limit:
            return rows, None
        last: Any = rows[page.limit - 1]
        return rows[: page.limit], self._encode(getattr(last, self.name), last.id)

    def _encode(self, value: Any, identity: int) -> str:
        key = value.isoformat() if isinstance(value, datetime) else value
        return base64.urlsafe_b64encode(orjson.dumps([self._signature, key, identity])).decode().rstrip("=")

    def _decode(self, cursor: str) -> tuple[Any, int]:
        refused = InvalidCursor("the cursor is not one of ours, or belongs to another sort")
        try:
            signature, key, identity = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            value = _moment(key) if self.column.type.python_type is datetime else key
        except (ValueError, TypeError, OverflowError, binascii.Error) as error:
            raise refused from error
        if (
            signature != self._signature
            or not isinstance(value, self.column.type.python_type)
            or type(identity) is not int
            or not 0 <= identity <= MAX_ID
            or (isinstance(value, str) and "\x00" in value)
            or (type(value) is int and not 0 <= value <= MAX_ID)
        ):
            raise refused
        return value, identity

    @property
    def _keys(self) -> tuple[ColumnElement[Any], ...]:
        return (self.id_column,) if self.name == "id" else (self.column, self.id_column)

    @property
    def _signature(self) -> str:
        return f"-{self.name}" if self.descending else self.name


class Position:
    """Cursors of lists in which every row has its place, a number from 1."""

    @staticmethod
    def encode(position: int) -> str:
        return base64.urlsafe_b64encode(orjson.dumps(["position", position])).decode().rstrip("=")

    @staticmethod
    def parse(cursor: str | None) -> int:
        """The place after which the page begins, 0 for the first page. Raises InvalidCursor."""
        if cursor is None:
            return 0
        try:
            signature, position = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (ValueError, TypeError, binascii.Error) as error:
            raise InvalidCursor("the cursor is not one of ours") from error
        if signature != "position" or type(position) is not int or not 0 <= position <= MAX_POSITION:
            raise InvalidCursor("the cursor is not one of ours")
        return position


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment needs a zone")
    return moment.astimezone(UTC)
