"""A digest of everything that the classes of an instance's accounts follow from: while it is the same, so are they.

- What was judged: of each account its snapshot, name, superuser flag and the digest of its rights; the type of the
  instance's database.
- What it was judged by: every rule of the space, with its revision, which rises with each change and never falls. A
  rule that was disabled and enabled again says the same as before, but what this did to assignments may have stopped
  half-way. For the same reason disabled rules count. Of one that is deleted the database leaves no assignment.
- How: the source of what understands and judges rules. Another version of the service can do so differently, and
  nobody has to remember to tell.
"""

import inspect
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from app.classifications import evaluation, rules
from app.classifications.evaluation import JudgedAccount
from app.classifications.records import StoredRule
from app.models.instance import DatabaseType
from app.turns import in_turns

_HOW: Final = "".join(inspect.getsource(module) for module in (rules, evaluation))


async def digest_of_classes(
    db_type: DatabaseType, judged_by: Sequence[StoredRule], accounts: Iterable[JudgedAccount]
) -> str:
    """In hex. The order of rules and accounts counts."""
    digest = sha256(_HOW.encode())
    # repr tells any two values of such types apart, whatever is in a name.
    digest.update(repr((db_type.value, [tuple(rule) for rule in judged_by])).encode())
    async for each in in_turns(accounts):
        digest.update(repr((each.permission_id, each.username, each.is_superuser, each.digest)).encode())
    return digest.hexdigest()
