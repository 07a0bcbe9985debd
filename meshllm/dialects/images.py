"""Images are data, never addresses: a model server fetches nothing for a stranger."""

from __future__ import annotations

import binascii
import re
from typing import Any

from meshllm.dialects.apis import Api
from meshllm.dialects.errors import BadRequest

REMOTE_IMAGE = (
    "image URLs are not currently supported, please use base64 encoded data instead"
)
# What a program's own tools were called with may hold any address.
OPAQUE_PARTS = frozenset({"tool_use", "function_call"})
OPAQUE_KEYS = frozenset({"tool_calls", "arguments"})
# Parts whose plain `url` is fetched; elsewhere (a citation, say) it is only text.
MEDIA_PARTS = frozenset({"image", "video", "audio", "file", "document", "input_image"})
# The first bytes of each format, for the data: URI that OpenAI's API wants.
MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")


def refuse_remote_images(request: dict[str, Any], api: Api) -> None:
    """Raises BadRequest, in the API's words, for an image that is not data."""
    if api is Api.OLLAMA:
        _check_images(request)
        for message in request.get("messages") or ():
            _check_images(message)
    for part in ("messages", "input", "system", "prompt"):
        _refuse_urls(request.get(part))


def data_uri(image: str) -> str:
    """Ollama's bare base64 as the data: URI that OpenAI's API takes."""
    if image.startswith("data:"):
        return image
    return f"data:{media_type(image)};base64,{image}"


def media_type(image: str) -> str:
    """The type that the first bytes of a base64 image tell; PNG when none does."""
    try:
        head = binascii.a2b_base64(image[:32])
    except binascii.Error:
        return "image/png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in MAGIC if head.startswith(magic)), "image/png")


def _check_images(holder: dict[str, Any]) -> None:
    images = holder.get("images")
    if images is None:
        return
    if not isinstance(images, list):
        raise BadRequest('"images" must be a list of base64 strings')
    for image in images:
        if not isinstance(image, str):
            raise BadRequest('"images" must be a list of base64 strings')
        _check_base64(image)


def _check_base64(image: str) -> None:
    """The text of Go's decoder, because that is what programs have seen so far."""
    text = image.replace("\n", "").replace("\r", "")
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as exc:
        stray = _NOT_BASE64.search(text)
        at = stray.start() if stray else len(text)
        raise BadRequest(f"illegal base64 data at input byte {at}") from exc


def _refuse_urls(value: Any) -> None:
    """Walks the parts of contents; an address that a server would fetch is refused."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        place, current = waiting.pop()
        if isinstance(current, list):
            inner = (item for item in current if isinstance(item, dict | list))
            waiting.extend((place, item) for item in inner)
        elif isinstance(current, dict) and current.get("type") not in OPAQUE_PARTS:
            media = _is_fetched(place) or current.get("type") in MEDIA_PARTS
            for key, held in current.items():
                if isinstance(held, str):
                    if key.casefold().endswith("_url") or (
                        media and key.casefold() == "url"
                    ):
                        _refuse_address(held)
                elif isinstance(held, dict | list) and key not in OPAQUE_KEYS:
                    waiting.append((key, held))


def _is_fetched(key: str) -> bool:
    folded = key.casefold()
    return folded.endswith("_url") or folded == "source"


def _refuse_address(url: str) -> None:
    if not url.startswith("data:"):
        raise BadRequest(REMOTE_IMAGE)
