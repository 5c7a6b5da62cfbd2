"""The rules of an instance's fields, one function each: text in, the value to store out, FieldError when it is refused.

Pure, and shared by the CSV import and the JSON API, so that both accept and normalise the same.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from app.models.instance import DatabaseType, Environment, SyncPolicy

MAX_NAME_CHARACTERS = 100
MAX_HOST_CHARACTERS = 255
MAX_DATABASE_NAME_CHARACTERS = 64
MAX_DESCRIPTION_CHARACTERS = 500
MAX_TAG_CHARACTERS = 100
MAX_TAGS = 50
MIN_PORT, MAX_PORT = 1, 65535

DEFAULT_PORT_BY_TYPE = {
    DatabaseType.MYSQL: 3306,
    DatabaseType.MARIADB: 3306,
    DatabaseType.POSTGRESQL: 5432,
    DatabaseType.SQLSERVER: 1433,
    DatabaseType.ORACLE: 1521,
    DatabaseType.REDIS: 6379,
    DatabaseType.MONGODB: 27017,
}
DATABASE_TYPE_BY_TEXT = {
    **{kind.value: kind for kind in DatabaseType},
    "postgres": DatabaseType.POSTGRESQL,
    "pg": DatabaseType.POSTGRESQL,
    "mssql": DatabaseType.SQLSERVER,
}
ENVIRONMENT_BY_TEXT = {each.value: each for each in Environment}
SYNC_POLICY_BY_TEXT = {each.value: each for each in SyncPolicy}
BOOLEAN_BY_TEXT = {
    "true": True, "yes": True, "1": True, "是": True,
    "false": False, "no": False, "0": False, "否": False,
}  # fmt: skip

_name = re.compile(r"[A-Za-z0-9_\u4e00-\u9fff][A-Za-z0-9_.\-\u4e00-\u9fff]{0,99}")
# RFC 1123 labels, with the underscores that real fleets have.
_host_name = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_only_digits_and_dots = re.compile(r"[0-9.]+")
_integer = re.compile(r"[+-]?[0-9]+")
# What no text may hold: PostgreSQL stores no NUL, UTF-8 no surrogate, and control characters are never meant.
_refused_characters = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_refused_on_one_line = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
TAG_SEPARATORS = re.compile(r"[|;]")


class FieldError(ValueError):
    """A value that a rule refuses; `code` is one of the contract's row error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _required(column: str, text: str) -> str:
    text = text.strip()
    if not text:
        raise FieldError("required", f"{column} must not be empty")
    return text


def _at_most(column: str, text: str, limit: int) -> str:
    if len(text) > limit:
        raise FieldError("too_long", f"{column} must have at most {limit} characters, not {len(text)}")
    return text


def name(text: str) -> str:
    text = _at_most("name", _required("name", text), MAX_NAME_CHARACTERS)
    if _name.fullmatch(text) is None:
        raise FieldError(
            "invalid_format",
            "name must begin with a letter, digit or underscore and go on with these, dots and hyphens, "
            f"not {_shown(text)}",
        )
    return text


def db_type(text: str) -> DatabaseType:
    kind = DATABASE_TYPE_BY_TEXT.get(_required("db_type", text).lower())
    if kind is None:
        allowed = ", ".join(each.value for each in DatabaseType)
        raise FieldError("unknown_value", f"db_type must be one of {allowed}, not {_shown(text.strip())}")
    return kind


def host(text: str) -> str:
    """A host name in lower case without the trailing dot, or an address in canonical form."""
    text = _at_most("host", _required("host", text), MAX_HOST_CHARACTERS)
    lowered = text.lower()
    try:
        if ":" in lowered:
            return _canonical_ipv6(lowered.removeprefix("[").removesuffix("]"))
        if _only_digits_and_dots.fullmatch(lowered):
            return str(IPv4Address(lowered))
    except ValueError as error:
        raise FieldError("invalid_format", f"host is not an IP address: {_shown(text)}") from error
    lowered = lowered.removesuffix(".")
    if _host_name.fullmatch(lowered) is None:
        raise FieldError("invalid_format", f"host must be a host name or an IP address, not {_shown(text)}")
    return lowered


def _canonical_ipv6(text: str) -> str:
    if "%" in text:
        raise ValueError("a zone means something on one machine only")
    address = IPv6Address(text)
    # Written alike by every Python version, which str() of a mapped address is not.
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else address.compressed


def port(value: str | int, kind: DatabaseType) -> int:
    """The port, or the type's own where the text is empty."""
    text = str(value).strip()
    if not text:
        return DEFAULT_PORT_BY_TYPE[kind]
    return explicit_port(text)


def explicit_port(text: str) -> int:
    if _integer.fullmatch(text) is None:
        raise FieldError("invalid_format", f"port must be a whole number, not {_shown(text)}")
    # Python refuses to convert thousands of digits; whatever is longer than this is out of range anyhow.
    if len(text) > 20 or not MIN_PORT <= int(text) <= MAX_PORT:
        raise FieldError("out_of_range", f"port must be {MIN_PORT} to {MAX_PORT}, not {text[:60]}")
    return int(text)


def database_name(text: str) -> str | None:
    text = _at_most("database_name", text.strip(), MAX_DATABASE_NAME_CHARACTERS)
    if _refused_on_one_line.search(text):
        raise FieldError("invalid_format", "database_name must not hold control characters")
    return text or None


def description(text: str) -> str | None:
    text = _at_most("description", text.strip(), MAX_DESCRIPTION_CHARACTERS)
    if _refused_characters.search(text):
        raise FieldError("invalid_format", "description must not hold control characters")
    return text or None


def environment(text: str) -> Environment:
    text = text.strip()
    if not text:
        return Environment.PRODUCTION
    found = ENVIRONMENT_BY_TEXT.get(text.lower())
    if found is None:
        raise FieldError("unknown_value", f"environment must be one of {', '.join(Environment)}, not {_shown(text)}")
    return found


def sync_policy(text: str) -> SyncPolicy:
    text = text.strip()
    if not text:
        return SyncPolicy.OFF
    found = SYNC_POLICY_BY_TEXT.get(text.lower())
    if found is None:
        raise FieldError("unknown_value", f"sync_policy must be one of {', '.join(SyncPolicy)}, not {_shown(text)}")
    return found


def boolean(column: str, text: str, *, default: bool) -> bool:
    text = text.strip()
    if not text:
        return default
    found = BOOLEAN_BY_TEXT.get(text.lower())
    if found is None:
        raise FieldError("unknown_value", f"{column} must be true or false (yes/no, 1/0, 是/否), not {_shown(text)}")
    return found


def is_active(text: str) -> bool:
    return boolean("is_active", text, default=True)


def deletion_protection(text: str) -> bool:
    return boolean("deletion_protection", text, default=False)


def credential(text: str) -> str | None:
    """The name of a credential; whether it exists is the database's to say."""
    text = _at_most("credential", text.strip(), MAX_NAME_CHARACTERS)
    if _refused_on_one_line.search(text):
        raise FieldError("invalid_format", "credential must not hold control characters")
    return text or None


def tag_name(text: str) -> str:
    text = _at_most("tag", _required("tag", text), MAX_TAG_CHARACTERS)
    if TAG_SEPARATORS.search(text) or _refused_on_one_line.search(text):
        raise FieldError("invalid_format", f"a tag must not hold '|', ';' or control characters: {_shown(text)}")
    return text


def tags(text: str) -> tuple[str, ...]:
    """Distinct tag names in order of name, from a cell separated by `|` or `;`."""
    return tag_names(part for part in TAG_SEPARATORS.split(text) if part.strip())


def tag_names(names: Iterable[str]) -> tuple[str, ...]:
    found = tuple(sorted({tag_name(each) for each in names}))
    if len(found) > MAX_TAGS:
        raise FieldError("out_of_range", f"an instance can have at most {MAX_TAGS} tags, not {len(found)}")
    return found


def endpoint_key(kind: DatabaseType, host: str, port: int, database_name: str | None) -> str:
    """What makes two registrations the same server; for Oracle the service name is part of it."""
    key = f"{kind.value}:{host}:{port}"
    return f"{key}/{database_name or ''}" if kind is DatabaseType.ORACLE else key
