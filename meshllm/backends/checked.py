"""A model server's answer, once it is sure that it is one.

Streams pass as they come. A proxy's page, half an object or a login, which no program
could read, becomes an error in the words of the API that was asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from meshllm.backends.base import BackendResponse, WholeResponse
from meshllm.backends.upstream import UpstreamResponse
from meshllm.dialects import JSON, NDJSON, SSE, Api, api_of, error_body
from meshllm.dialects.openai_events import error_of
from meshllm.errors import BackendError

# An object up to this size is read whole and must be JSON; what is longer passes.
WHOLE_LIMIT: Final = 256 * 1024
ERROR_LIMIT: Final = 64 * 1024
PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
SHOWN_MAX: Final = 500  # characters of a text that is no JSON
# The provider is not let in. A program that was told so would doubt its own key.
NOT_LET_IN: Final = frozenset({401, 403, 407})


async def checked(response: UpstreamResponse, path: str, where: str) -> BackendResponse:
    """`where` is the server, as in `The model server at http://…`. BackendError (502)
    when this is no answer of one; the response is closed then."""
    try:
        if response.status >= 400:
            return await _error(response, path, where)
        if _media_type(response) in (NDJSON, SSE):
            return response
        return await _whole(response, path, where)
    except BaseException:
        await response.aclose()
        raise


def refuse_page(response: UpstreamResponse, path: str, where: str) -> None:
    """BackendError where a stream is to be translated and a page for people comes."""
    if _media_type(response) in PAGES:
        raise _no_answer(path, where, f"with {_media_type(response)}")


async def error_in(response: UpstreamResponse, path: str, where: str) -> BackendError:
    """What a status of 400 or more says, in one sentence and with a fitting status."""
    return _error_of(await response.read(ERROR_LIMIT), response, path, where)


async def _error(response: UpstreamResponse, path: str, where: str) -> BackendResponse:
    content, api = await response.read(ERROR_LIMIT), api_of(path)
    error = _error_of(content, response, path, where)
    if error.status == response.status and _has_shape(_parsed(content), api):
        return WholeResponse(response.status, JSON, content)  # with all its fields
    return WholeResponse(error.status, JSON, error_body(api, error.status, str(error)))


def _error_of(
    content: bytes, response: UpstreamResponse, path: str, where: str
) -> BackendError:
    status = response.status
    if status in NOT_LET_IN:
        return BackendError(
            f"{where} does not let this provider in (status {status}). Does it want an "
            "API key?"
        )
    if status > 599:
        return BackendError(f"{where} answered {path} with status {status}.")
    found = _parsed(content)
    if found is None and _media_type(response) == "text/plain":
        found = content.decode(errors="replace").strip()[:SHOWN_MAX]
    if not found:
        return BackendError(f"{where} answered {path} with status {status}.", status)
    return error_of(found, status)


def _has_shape(found: Any, api: Api) -> bool:
    error = found.get("error") if isinstance(found, dict) else None
    return isinstance(error, str if api is Api.OLLAMA else dict)


async def _whole(response: UpstreamResponse, path: str, where: str) -> BackendResponse:
    body = bytearray()
    media_type = _media_type(response)
    async for chunk in response:
        body += chunk
        if len(body) > WHOLE_LIMIT:
            if media_type != "application/json":
                break
            return _Begun(bytes(body), response)
    else:
        if _parsed(bytes(body)) is not None:
            return WholeResponse(response.status, JSON, bytes(body), response.timing)
    what = f"with {media_type}" if body else "with nothing"
    if body and media_type == "application/json":
        what = "with what is no JSON"
    raise _no_answer(path, where, what)


def _no_answer(path: str, where: str, what: str) -> BackendError:
    return BackendError(f"{where} answered {path} {what}. Check its address (--url).")


class _Begun:
    """A long object whose beginning was read already; satisfies BackendResponse."""

    def __init__(self, begun: bytes, response: UpstreamResponse) -> None:
        self.status = response.status
        self.content_type = JSON
        self.timing = response.timing
        self._begun = begun
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._begun
        async for chunk in self._response:
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


def _media_type(response: UpstreamResponse) -> str:
    return response.content_type.partition(";")[0].strip().lower()


def _parsed(content: bytes) -> Any:
    """None: it is no JSON."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
