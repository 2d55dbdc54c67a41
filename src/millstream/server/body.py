"""What may come in as the body of a request: bounded in size, depth and time, and JSON to the letter.

Every module in `routes/` makes its router with one of the classes here: `APIRouter(route_class=JsonRoute)`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, ClassVar, Final

from fastapi import Request, Response, params
from fastapi.routing import APIRoute

from millstream.server.problem import Problem

MAX_JSON_BYTES: Final = 4 << 20
MAX_UPLOAD_BYTES: Final = 32 << 20
MAX_DEPTH: Final = 64
BODY_SECONDS: Final = 30.0
"""In which a body has to be there, however slowly it comes."""

_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")

_CLOSE: Final = {"Connection": "close"}
"""Nobody reads the rest of such a body."""

_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)
"""Whole strings and single brackets; possessive, so that no text makes it look twice."""


class BoundedRequest(Request):
    """A request whose body has a limit; `json()` takes what RFC 8259 says, and nothing beyond it.

    Attributes:
        limit: The bytes that the body may have.
    """

    limit = MAX_JSON_BYTES

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes.

        Raises:
            Problem: It is too large (413), or does not come in time (408).
        """
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.limit:
            raise self._too_large()
        seen = 0
        chunks = super().stream()
        deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Problem(408, f"the body was not there within {BODY_SECONDS:g} s", headers=_CLOSE) from None
            seen += len(chunk)
            if seen > self.limit:
                raise self._too_large()
            yield chunk

    async def json(self) -> Any:
        """Return the body's value.

        Raises:
            Problem: It is no JSON (400).
        """
        return strict_json(await self.body())

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self.limit} bytes", headers=_CLOSE)


class JsonRoute(APIRoute):
    """A route whose body is a JSON value or a small form."""

    limit: ClassVar[int] = MAX_JSON_BYTES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request, with its body bounded."""
        handle = super().get_route_handler()
        takes_form = self.body_field is not None and isinstance(self.body_field.field_info, params.Form)
        takes_json = self.body_field is not None and not takes_form

        async def bounded(request: Request) -> Response:
            if takes_json:
                _check_type(request)
            elif takes_form:
                _check_form(request)
            within = BoundedRequest(request.scope, request.receive)
            within.limit = self.limit
            return await handle(within)

        return bounded


class UploadRoute(JsonRoute):
    """A route that takes whole files of flows."""

    limit = MAX_UPLOAD_BYTES


def _check_type(request: Request) -> None:
    """Refuse what is not sent as JSON: a page of another site could send it without being asked for leave.

    Raises:
        Problem: The type is another (415).
    """
    kind = _type_of(request)
    if kind is not None and kind != "application/json" and not re.fullmatch(r"application/.*\+json", kind):
        raise Problem(415, f"the body is sent as {kind or 'nothing'}; send it as application/json")


def _check_form(request: Request) -> None:
    """Refuse what is no form, rather than say that each of its fields is missing.

    Raises:
        Problem: The type is another (415).
    """
    kind = _type_of(request)
    if kind is not None and kind not in _FORMS:
        raise Problem(415, f"the body is sent as {kind or 'nothing'}; send a form: {' or '.join(_FORMS)}")


def _type_of(request: Request) -> str | None:
    """Return the media type of the body, `""` where it is not said; `None` where there is no body."""
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() if has_body else None


def strict_json(body: bytes, what: str = "the body") -> Any:
    """Return the value of a JSON text.

    Args:
        body: The text, as UTF-8.
        what: What messages call it.

    Raises:
        Problem: It is not UTF-8, not JSON, too deep, has a name twice in one object, half a surrogate pair, or a number
            that is none (400).

    Example:
        >>> strict_json(b'{"a": [1]}')
        {'a': [1]}
    """
    try:
        text = body.decode()
        _check_depth(body)
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except _RefusedError as error:
        raise Problem(400, f"{what} {error}") from None
    except UnicodeError:
        raise Problem(400, f"{what} holds what is no text in UTF-8") from None
    except ValueError as error:
        raise Problem(400, f"{what} is not JSON: {error}") from None
    return value


class _RefusedError(Exception):
    """Raised inside `strict_json` for what JSON may hold, and bodies may not."""


def _check_depth(body: bytes) -> None:
    """Refuse nesting before anything is parsed: each level would cost the parser a call."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKENS.finditer(body):
        match token.group():
            case b"[" | b"{":
                depth += 1
                if depth > MAX_DEPTH:
                    raise _RefusedError(f"is nested deeper than {MAX_DEPTH} levels")
            case b"]" | b"}":
                depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RefusedError(f"has the name {twice[:100]!r} twice in one object")
    return found


def _no_number(text: str) -> Any:
    raise _RefusedError(f"holds {text}, which is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _RefusedError(f"holds the number {text[:40]}, which is too large")
    return number
