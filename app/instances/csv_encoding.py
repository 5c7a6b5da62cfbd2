"""The encoding of an uploaded file.

In this order: a byte order mark; UTF-16 without one, by the header's pattern of zero bytes; strict UTF-8; for the lines
that hold other bytes GB18030 or cp1252, by which of them makes usual characters of these, and where that leaves a doubt
what charset-normalizer thinks (of a few words it thinks wrongly: the cp1252 of "für" is Chinese to it). Whatever is
chosen must decode the whole file. A file that is UTF-8 but for a few bytes is refused: in another encoding it could be
read, but as other characters.
"""

import codecs
import io
import re
from collections.abc import Callable
from pathlib import Path

from charset_normalizer import from_bytes

from app.instances.csv_file import FaultDetail, FileFault, FileRefused, head_of

READ_BYTES = 1024 * 1024
SAMPLE_BYTES = 256 * 1024
BYTE_ORDER_MARK = "\ufeff"

_fallback_encodings = ("gb18030", "cp1252")
# The share of usual characters that makes an encoding sure, and the one below which it is not considered.
_sure_share, _unlikely_share = 0.75, 0.25
# The first level of GB 2312, which is what nearly all Chinese text is written in, and full-width punctuation. Letters
# of cp1252 read as GB18030 make others: their second byte is ASCII, or their first one beyond this level.
_usual_in_chinese = frozenset(
    bytes((first, second)).decode("gb2312", "ignore")
    for first in (0xA1, 0xA3, *range(0xB0, 0xD8))
    for second in range(0xA1, 0xFF)
)
_usual_in_cp1252 = frozenset(map(chr, range(0xC0, 0x100))) - {"×", "÷"} | frozenset("ŠšŽžŒœŸ‘’“”–—…€£§°«»¡¿ªº©®™·")
_leading_line = re.compile(rb"[\r\n\x00 ]*[^\r\n]*")
# Names under which people ask for an encoding, and the codec that reads it.
ENCODINGS = {
    "utf-8": "utf-8", "utf8": "utf-8", "utf-8-sig": "utf-8-sig",
    "utf-16": "utf-16", "utf-16-le": "utf-16-le", "utf-16-be": "utf-16-be",
    "gb18030": "gb18030", "gbk": "gb18030", "gb2312": "gb18030",
    "cp1252": "cp1252", "windows-1252": "cp1252", "latin-1": "cp1252", "iso-8859-1": "cp1252",
}  # fmt: skip
_marks = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, None),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect_encoding(source: Path, requested: str) -> str:
    """The codec that decodes the whole file; `requested` is `auto` or one of ENCODINGS."""
    head = head_of(source)
    if requested != "auto":
        codec = _requested_codec(head, requested)
        _require_decodable(source, codec, requested)
        return codec
    marked = _by_mark(head) or _utf16_without_mark(head)
    if marked is not None:
        _require_decodable(source, marked, marked)
        return marked
    if undecodable_line(source, "utf-8") is None:
        return "utf-8"
    return _legacy_encoding(source)


def _requested_codec(head: bytes, requested: str) -> str:
    codec = ENCODINGS[requested]
    if codec == "utf-16" and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        # Python's codec insists on the mark.
        return _utf16_without_mark(head) or "utf-16-le"
    return codec


def _by_mark(head: bytes) -> str | None:
    for mark, codec in _marks:
        if head.startswith(mark):
            if codec is None:
                raise FileRefused(FileFault.UNPARSABLE, "UTF-32 is not read; save the file as UTF-8")
            return codec
    return None


def _utf16_without_mark(head: bytes) -> str | None:
    """In UTF-16 nearly every other byte of the header is zero, always on the same side."""
    found = _leading_line.match(head)
    line = found.group() if found else b""
    even, odd = line[0::2].count(0), line[1::2].count(0)
    half = len(line) // 2
    if odd > half * 0.6 and even < half * 0.1:
        return "utf-16-le"
    if even > half * 0.6 and odd < half * 0.1:
        return "utf-16-be"
    return None


def _legacy_encoding(source: Path) -> str:
    line = undecodable_line(source, "utf-8")
    sample = _lines_beyond_ascii(source)
    if _is_damaged_utf8(sample):
        raise FileRefused(
            FileFault.UNPARSABLE,
            f"the file is UTF-8, but line {line} is not: it was cut inside a character, or holds another encoding's",
            (FaultDetail("invalid_encoding", "these bytes are not UTF-8, as others in the file are", line=line),),
        )
    for codec in [*_guesses(sample), *_fallback_encodings]:
        if undecodable_line(source, codec) is None:
            return codec
    raise FileRefused(
        FileFault.UNPARSABLE,
        f"the file is not text in UTF-8, UTF-16, GB18030 or cp1252; line {line} cannot be decoded",
        (FaultDetail("invalid_encoding", "these bytes are not UTF-8", line=line),),
    )


def _is_damaged_utf8(sample: bytes) -> bool:
    """Whether nearly everything beyond ASCII is UTF-8; bytes of another encoding are that by accident, and seldom."""
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        text = sample.decode("utf-8", "replace")
        faults = text.count("\ufffd")
        characters = sum(not character.isascii() for character in text) - faults
        is_cut = error.reason == "unexpected end of data" and characters > 0
        return is_cut or characters >= 4 * faults
    return True


def _guesses(sample: bytes) -> list[str]:
    chinese = _share(_is_usual_in_chinese, sample.decode("gb18030", "ignore"))
    if chinese >= _sure_share:
        return ["gb18030"]
    if (
        chinese <= _unlikely_share
        and _share(_usual_in_cp1252.__contains__, sample.decode("cp1252", "ignore")) >= _sure_share
    ):
        return ["cp1252"]
    return [guess.encoding for guess in from_bytes(sample, cp_isolation=list(_fallback_encodings))]


def _is_usual_in_chinese(character: str) -> bool:
    # Four bytes, as emoji have, would make nonsense in cp1252.
    return character in _usual_in_chinese or len(character.encode("gb18030")) == 4


def _share(is_usual: Callable[[str], bool], text: str) -> float:
    """How much of what is beyond ASCII is usual."""
    beyond = [character for character in text if not character.isascii()]
    return sum(map(is_usual, beyond)) / len(beyond) if beyond else 0.0


def _lines_beyond_ascii(source: Path) -> bytes:
    """The lines that tell encodings apart, up to the sample's size."""
    sample = bytearray()
    with source.open("rb") as file:
        for line in file:
            if not line.isascii():
                sample += line[:SAMPLE_BYTES]
                if len(sample) >= SAMPLE_BYTES:
                    break
    return bytes(sample)


def _require_decodable(source: Path, codec: str, named: str) -> None:
    line = undecodable_line(source, codec)
    if line is not None:
        raise FileRefused(
            FileFault.UNPARSABLE,
            f"the file is not {named}: line {line} cannot be decoded",
            (FaultDetail("invalid_encoding", f"these bytes are not {named}", line=line),),
        )


def undecodable_line(source: Path, codec: str) -> int | None:
    """The line of the first bytes that the codec refuses, or None when it decodes the whole file."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(codec)(errors="strict"), translate=True)
    line = 1
    with source.open("rb") as file:
        while True:
            piece = file.read(READ_BYTES)
            before = decoder.getstate()
            try:
                line += decoder.decode(piece, final=not piece).count("\n")
            except UnicodeDecodeError as error:
                # The bytes that an earlier piece left over are in the error's too.
                acceptable = piece[: max(0, error.start - len(before[0]))]
                decoder.setstate(before)
                return line + decoder.decode(acceptable).count("\n")
            if not piece:
                return None
