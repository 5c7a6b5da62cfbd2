"""The key of the audit trail's seals: configured, or made at first start in the data directory."""

from app.audit.chain import Sealing
from app.config import Settings
from app.key_file import KeyRefused, configured_or_made

VARIABLE = "MUSTER_AUDIT_KEY"
FILE_NAME = "audit.key"


def open_sealing(settings: Settings) -> Sealing:
    """Raises KeyRefused."""
    return Sealing(configured_or_made(settings.audit_key, VARIABLE, settings.data_dir / FILE_NAME))


def existing_sealing(settings: Settings) -> Sealing:
    """The same without making a key: a new one would fit nothing. Raises KeyRefused when there is none."""
    path = settings.data_dir / FILE_NAME
    if settings.audit_key is None and not path.exists():
        raise KeyRefused(f"there is no audit key: {path} does not exist, and {VARIABLE} is not set")
    return open_sealing(settings)
