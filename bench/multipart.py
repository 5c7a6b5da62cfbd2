"""Bodies that carry a file and form fields."""

from collections.abc import Iterator, Mapping
from pathlib import Path

PIECE_BYTES = 1024 * 1024
_BOUNDARY = "muster-bench-boundary"
_MEDIA_TYPE = f"multipart/form-data; boundary={_BOUNDARY}"
_TAIL = f"\r\n--{_BOUNDARY}--\r\n".encode()


class Upload:
    """A body whose file is read while it is sent."""

    media_type = _MEDIA_TYPE

    def __init__(self, path: Path, fields: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._head = _head(fields or {})
        self.size = len(self._head) + path.stat().st_size + len(_TAIL)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
        yield _TAIL


def multipart(file: bytes, fields: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    """The body of an upload, and its media type."""
    return b"".join((_head(fields or {}), file, _TAIL)), _MEDIA_TYPE


def _head(fields: Mapping[str, str]) -> bytes:
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="fleet.csv"\r\n')
    return ("".join(parts) + "Content-Type: text/csv\r\n\r\n").encode()
