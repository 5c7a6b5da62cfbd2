"""The rules of an instance's fields, one function each: text in, the value to store out, FieldError when it is refused.

Pure, and shared by the CSV import and the JSON API, so that both accept and normalise the same.
"""

import re
from ipaddress import IPv4Address, IPv6Address

from app.errors import FieldError
from app.fields import at_most, one_line, required, several_lines, shown
from app.models.instance import DatabaseType, Environment, SyncPolicy
from app.tags.names import MAX_TAG_CHARACTERS, MAX_TAGS, TAG_SEPARATORS, tag_name, tag_names, tags

# The rules of tags are an instance's too, and whoever judges an instance's fields finds all of them here.
__all__ = ["MAX_TAGS", "MAX_TAG_CHARACTERS", "TAG_SEPARATORS", "FieldError", "tag_name", "tag_names", "tags"]

MAX_NAME_CHARACTERS = 100
MAX_HOST_CHARACTERS = 255
MAX_DATABASE_NAME_CHARACTERS = 64
MAX_DESCRIPTION_CHARACTERS = 500
MAX_FILE_NAME_CHARACTERS = 255
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


def name(text: str) -> str:
    text = at_most("name", required("name", text), MAX_NAME_CHARACTERS)
    if _name.fullmatch(text) is None:
        raise FieldError(
            "invalid_format",
            "name must begin with a letter, digit or underscore and go on with these, dots and hyphens, "
            f"not {shown(text)}",
        )
    return text


def db_type(text: str) -> DatabaseType:
    kind = DATABASE_TYPE_BY_TEXT.get(required("db_type", text).lower())
    if kind is None:
        allowed = ", ".join(each.value for each in DatabaseType)
        raise FieldError("unknown_value", f"db_type must be one of {allowed}, not {shown(text.strip())}")
    return kind


def host(text: str) -> str:
    """A host name in lower case without the trailing dot, or an address in canonical form."""
    text = at_most("host", required("host", text), MAX_HOST_CHARACTERS)
    lowered = text.lower()
    try:
        if ":" in lowered:
            return _canonical_ipv6(lowered.removeprefix("[").removesuffix("]"))
        if _only_digits_and_dots.fullmatch(lowered):
            return str(IPv4Address(lowered))
    except ValueError as error:
        raise FieldError("invalid_format", f"host is not an IP address: {shown(text)}") from error
    lowered = lowered.removesuffix(".")
    if _host_name.fullmatch(lowered) is None:
        raise FieldError("invalid_format", f"host must be a host name or an IP address, not {shown(text)}")
    return lowered


def _canonical_ipv6(text: str) -> str:
    if "%" in text:
        raise ValueError("a zone means something on one machine only")
    address = IPv6Address(text)
    # Written alike by every Python version, which str() of a mapped address is not.
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else address.compressed


def optional_port(text: str) -> int | None:
    """The port, or None for an empty text, which stands for the type's own."""
    text = text.strip()
    return explicit_port(text) if text else None


def explicit_port(text: str) -> int:
    if _integer.fullmatch(text) is None:
        raise FieldError("invalid_format", f"port must be a whole number, not {shown(text)}")
    # Python refuses to convert thousands of digits; whatever is longer than this is out of range anyhow.
    if len(text) > 20 or not MIN_PORT <= int(text) <= MAX_PORT:
        raise FieldError("out_of_range", f"port must be {MIN_PORT} to {MAX_PORT}, not {text[:60]}")
    return int(text)


def database_name(text: str) -> str | None:
    text = one_line("database_name", at_most("database_name", text.strip(), MAX_DATABASE_NAME_CHARACTERS))
    return text or None


def description(text: str) -> str | None:
    text = several_lines("description", at_most("description", text.strip(), MAX_DESCRIPTION_CHARACTERS))
    return text or None


def tls_ca_file(text: str) -> str | None:
    """The plain name of a file; whether it is there is known when the server is connected to."""
    text = one_line("tls_ca_file", at_most("tls_ca_file", text.strip(), MAX_FILE_NAME_CHARACTERS))
    if text.startswith(".") or "/" in text or "\\" in text:
        raise FieldError("invalid_format", f"tls_ca_file must be the plain name of a file, not {shown(text)}")
    return text or None


def environment(text: str) -> Environment:
    text = text.strip()
    if not text:
        return Environment.PRODUCTION
    found = ENVIRONMENT_BY_TEXT.get(text.lower())
    if found is None:
        raise FieldError("unknown_value", f"environment must be one of {', '.join(Environment)}, not {shown(text)}")
    return found


def sync_policy(text: str) -> SyncPolicy:
    text = text.strip()
    if not text:
        return SyncPolicy.OFF
    found = SYNC_POLICY_BY_TEXT.get(text.lower())
    if found is None:
        raise FieldError("unknown_value", f"sync_policy must be one of {', '.join(SyncPolicy)}, not {shown(text)}")
    return found


def boolean(column: str, text: str, *, default: bool) -> bool:
    text = text.strip()
    if not text:
        return default
    found = BOOLEAN_BY_TEXT.get(text.lower())
    if found is None:
        raise FieldError("unknown_value", f"{column} must be true or false (yes/no, 1/0, 是/否), not {shown(text)}")
    return found


def is_active(text: str) -> bool:
    return boolean("is_active", text, default=True)


def deletion_protection(text: str) -> bool:
    return boolean("deletion_protection", text, default=False)


def credential(text: str) -> str | None:
    """The name of a credential; whether it exists is the database's to say."""
    text = one_line("credential", at_most("credential", text.strip(), MAX_NAME_CHARACTERS))
    return text or None


def endpoint_key(kind: DatabaseType, host: str, port: int, database_name: str | None) -> str:
    """What makes two registrations the same server; for Oracle the service name is part of it."""
    key = f"{kind.value}:{host}:{port}"
    return f"{key}/{database_name or ''}" if kind is DatabaseType.ORACLE else key
