"""Rows of a made-up fleet in the import's CSV format; the same arguments give the same bytes.

Every row is valid. Names and endpoints are distinct within one prefix, tags are drawn from `TAGS`.
"""

import csv
import io
import random
from collections.abc import Iterator
from typing import TextIO

from app.instances.csv_rows import COLUMNS
from app.instances.fields import DEFAULT_PORT_BY_TYPE
from app.models.instance import DatabaseType

TAGS = ("gold", "silver", "bronze", "pci", "gdpr", "oltp", "olap", "batch", "legacy", "核心")
_WEIGHT_BY_TYPE = {
    DatabaseType.MYSQL: 40,
    DatabaseType.MARIADB: 10,
    DatabaseType.POSTGRESQL: 30,
    DatabaseType.SQLSERVER: 6,
    DatabaseType.ORACLE: 4,
    DatabaseType.REDIS: 7,
    DatabaseType.MONGODB: 3,
}
_WEIGHT_BY_ENVIRONMENT = {"production": 4, "staging": 2, "testing": 2, "development": 2}
_REGIONS = ("bj", "sh", "gz", "fra", "iad")
_TEAMS = ("orders", "billing", "search", "ledger", "identity", "media", "risk", "crm")


def csv_file(count: int, *, prefix: str = "import", seed: int = 1) -> bytes:
    """A file of `count` rows, with its header."""
    text = io.StringIO()
    write_csv(text, count, prefix=prefix, seed=seed)
    return text.getvalue().encode()


def write_csv(text: TextIO, count: int, *, prefix: str = "import", seed: int = 1, padding: str = "") -> None:
    """The same into a file; `padding` follows each description."""
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in _rows(count, prefix, random.Random(seed)):
        row["description"] = f"{row['description']}{padding}"
        writer.writerow(row)


def _rows(count: int, prefix: str, random_: random.Random) -> Iterator[dict[str, object]]:
    types, type_weights = list(_WEIGHT_BY_TYPE), list(_WEIGHT_BY_TYPE.values())
    environments, environment_weights = list(_WEIGHT_BY_ENVIRONMENT), list(_WEIGHT_BY_ENVIRONMENT.values())
    for number in range(count):
        db_type = random_.choices(types, type_weights)[0]
        team, region = random_.choice(_TEAMS), random_.choice(_REGIONS)
        environment = random_.choices(environments, environment_weights)[0]
        yield {
            "name": f"{prefix}-{db_type}-{team}-{number:06d}",
            "db_type": db_type.value,
            "host": f"{prefix}-{number:06d}.{team}.{region}.db.example",
            "port": DEFAULT_PORT_BY_TYPE[db_type] + random_.choice((0, 0, 0, 1, 2)),
            "database_name": team,
            "description": random_.choice((
                "", f"{team} primary in {region}", f'{team}, replica "{random_.randrange(9)}"', f"{team}库 第{number}号",
            )),
            "environment": environment,
            "credential": "",
            "tags": "|".join(random_.sample(TAGS, random_.randrange(0, 4))),
            "sync_policy": random_.choice(("off", "hourly", "daily", "weekly")),
            "is_active": random_.choices(("true", "false"), (9, 1))[0],
            "deletion_protection": "true" if environment == "production" and random_.random() < 0.05 else "false",
        }  # fmt: skip
