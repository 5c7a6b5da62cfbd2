"""Which server it is: MySQL and MariaDB have gone different ways, and each release has other columns."""

import re
from dataclasses import dataclass

_number = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Release:
    """`text` is what VERSION() says, such as `10.11.19-MariaDB-log` or `8.4.3`."""

    text: str

    @property
    def is_mariadb(self) -> bool:
        return "mariadb" in self.text.lower()

    @property
    def number(self) -> tuple[int, ...]:
        found = _number.search(self.text)
        return tuple(int(each or 0) for each in found.groups()) if found else (0,)

    def is_mysql_since(self, *number: int) -> bool:
        return not self.is_mariadb and self.number >= number

    def is_mariadb_since(self, *number: int) -> bool:
        return self.is_mariadb and self.number >= number
