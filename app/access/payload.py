"""What a request asks for, as one number: the same for the same question, however it is written down.

Method, path, query and fields count, and of files what is in them. Neither the boundary of a multipart body, nor the
order of fields and of a JSON object's members, nor white space makes a difference.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from contextlib import suppress

import orjson
from fastapi import Request
from starlette.datastructures import UploadFile

# Above this, hashing takes long enough to be noticed by other requests.
LARGE_BYTES = 256 * 1024


async def fingerprint(request: Request, secret: bytes) -> str:
    """HMAC-SHA256: payloads hold passwords, which somebody who reads the table must not be able to try out.

    Reads the body, which the framework finds read when its turn comes.
    """
    question = [request.method, request.url.path, _sorted(request.query_params.multi_items()), await _payload(request)]
    return hmac.new(secret, orjson.dumps(question), hashlib.sha256).hexdigest()


async def _payload(request: Request) -> list[object]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        form = await request.form()
        return ["form", _sorted([(name, await _field(value)) for name, value in form.multi_items()])]
    body = await request.body()
    is_json = kind == "application/json" or kind.endswith("+json")
    if len(body) > LARGE_BYTES:
        return [kind, await asyncio.to_thread(_digest, body, is_json)]
    return [kind, _digest(body, is_json)]


def _sorted(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """By name; those of the same name in the order in which they came."""
    return sorted(pairs, key=lambda pair: pair[0])


async def _field(value: UploadFile | str) -> str:
    if isinstance(value, str):
        return "text " + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return "file " + await asyncio.to_thread(_file_digest, value)


def _file_digest(upload: UploadFile) -> str:
    digest = hashlib.sha256()
    upload.file.seek(0)
    while piece := upload.file.read(LARGE_BYTES):
        digest.update(piece)
    upload.file.seek(0)
    return digest.hexdigest()


def _digest(body: bytes, is_json: bool) -> str:
    if is_json:
        # What cannot be read is itself.
        with suppress(orjson.JSONDecodeError):
            body = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()
