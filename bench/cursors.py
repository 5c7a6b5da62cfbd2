"""Cursors of the list of instances, made without walking to them."""

from typing import Any

from app.models.base import table_of
from app.models.instance import Instance
from app.pagination import PageRequest, Sort

_instances = table_of(Instance)
_columns = {name: _instances.c[name] for name in ("id", "name", "created_at")}


def cursor_after(sort: str, row: Any) -> str | None:
    """The cursor of the page that follows a row, which has the sort's column and `id` as attributes."""
    page = PageRequest(limit=1, cursor=None, include_total=False)
    _, cursor = Sort.parse(sort, _columns).cut([row, row], page)
    return cursor
