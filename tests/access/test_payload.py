import pytest
from fastapi import Request

from app.access.payload import LARGE_BYTES, fingerprint

JSON = "application/json"


async def of(body: bytes, kind: str = JSON, query: str = "", secret: bytes = b"s") -> str:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/p",
        "query_string": query.encode(),
        "headers": [(b"content-type", kind.encode()), (b"host", b"h")],
    }
    request = Request(scope, receive)
    try:
        return await fingerprint(request, secret)
    finally:
        await request.close()


def multipart(boundary: str, *parts: str) -> tuple[bytes, str]:
    body = "".join(f"--{boundary}\r\nContent-Disposition: form-data; {part}\r\n" for part in parts)
    return f"{body}--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


class TestSame:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ((b'{"a": 1, "b": [1, 2]}',), (b'{"b":[1,2],"a":1}',)),
            ((b'"\\u0041"',), (b'"A"',)),
            ((b"a=1&b=2", "application/x-www-form-urlencoded"), (b"b=2&a=1", "application/x-www-form-urlencoded")),
            ((b"{}", "application/json; charset=utf-8"), (b"{}", "Application/JSON")),
            ((b"", JSON, "a=1&b=2"), (b"", JSON, "b=2&a=1")),
            ((b"", JSON, "a=%41"), (b"", JSON, "a=A")),
            (multipart("x", 'name="a"\r\n\r\n1'), multipart("yy", 'name="a"\r\n\r\n1')),
            (
                multipart("x", 'name="f"; filename="1.csv"\r\n\r\nrow', 'name="a"\r\n\r\n1'),
                multipart("x", 'name="a"\r\n\r\n1', 'name="f"; filename="2.csv"\r\nContent-Type: text/csv\r\n\r\nrow'),
            ),
        ],
    )
    async def test_question_in_another_form(self, one: tuple[bytes, str], other: tuple[bytes, str]) -> None:
        assert await of(*one) == await of(*other)

    async def test_large_json_in_another_form(self) -> None:
        numbers = b",".join(b"%d" % number for number in range(LARGE_BYTES // 4))
        assert await of(b"[" + numbers + b"]") == await of(b"[ " + numbers.replace(b",", b", ") + b" ]")


class TestDifferent:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ((b'{"a": 1}',), (b'{"a": "1"}',)),
            ((b'{"a": null}',), (b"{}",)),
            ((b"[1, 2]",), (b"[2, 1]",)),
            ((b"{}",), (b"{}", "text/plain")),
            ((b"{",), (b"{ ",)),
            ((b"",), (b"null",)),
            ((b"", JSON, "a=1&a=2"), (b"", JSON, "a=2&a=1")),
            ((b"a=1&a=2", "application/x-www-form-urlencoded"), (b"a=2&a=1", "application/x-www-form-urlencoded")),
            (multipart("x", 'name="f"; filename="1"\r\n\r\nrow'), multipart("x", 'name="f"\r\n\r\nrow')),
            (multipart("x", 'name="f"; filename="1"\r\n\r\nrow'), multipart("x", 'name="f"; filename="1"\r\n\r\nrow2')),
            (multipart("x", 'name="f"; filename="1"\r\n\r\nrow'), multipart("x", 'name="g"; filename="1"\r\n\r\nrow')),
        ],
    )
    async def test_question(self, one: tuple[bytes, str], other: tuple[bytes, str]) -> None:
        assert await of(*one) != await of(*other)

    async def test_secret(self) -> None:
        assert await of(b"{}", secret=b"a") != await of(b"{}", secret=b"b")
