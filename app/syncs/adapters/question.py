"""A catalogue query together with the shape of its rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Question(Generic[RowT]):
    """`row` makes the answer's rows from their columns, in the statement's order."""

    statement: str
    row: Callable[..., RowT]

    def about(self, **names: str) -> "Question[RowT]":
        """With the names put in for `{…}`; whoever asks has quoted them."""
        return Question(self.statement.format(**names), self.row)
