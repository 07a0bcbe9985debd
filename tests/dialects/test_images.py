"""Images are data: no server may be made to fetch an address."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from meshllm.dialects import BadRequest, parse_request
from meshllm.dialects.images import data_uri

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
REMOTE = "image URLs are not currently supported"


def parse(path: str, **fields: Any) -> dict[str, Any]:
    return parse_request(json.dumps({"model": "m"} | fields).encode(), path)


def openai_part(url: Any) -> list[dict[str, Any]]:
    part = {"type": "image_url", "image_url": url}
    return [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("http://example.org/a.png", "illegal base64 data at input byte 4"),
        ("data:image/png;base64," + PNG, "illegal base64 data at input byte 4"),
        (PNG[:-1], "illegal base64 data"),
        ("", None),
        (PNG, None),
        (PNG[:20] + "\n" + PNG[20:], None),
        (7, "list of base64 strings"),
    ],
)
def test_ollama_images_are_bare_base64(image: Any, says: str | None) -> None:
    message = {"role": "user", "content": "see", "images": [image]}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/api/chat", {"messages": [message]}),
        ("/api/generate", {"prompt": "see", "images": [image]}),
    ]
    for path, fields in requests:
        if says is None:
            assert parse(path, **fields)["model"] == "m"
        else:
            with pytest.raises(BadRequest, match=says):
                parse(path, **fields)


@pytest.mark.parametrize("form", ["object", "string"])
@pytest.mark.parametrize(
    "url", ["http://a/b.png", "HTTPS://a", "file:///etc/passwd", "//a", ""]
)
def test_openai_images_are_no_addresses(url: str, form: str) -> None:
    value = {"url": url} if form == "object" else url
    with pytest.raises(BadRequest, match=REMOTE):
        parse("/v1/chat/completions", messages=openai_part(value))


def test_openai_images_as_data_are_welcome() -> None:
    url = f"data:image/png;base64,{PNG}"
    found = parse("/v1/chat/completions", messages=openai_part({"url": url}))
    assert found["messages"] == openai_part({"url": url})


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (
            "/v1/responses",
            {
                "input": [
                    {"content": [{"type": "input_image", "image_url": "http://a"}]}
                ]
            },
        ),
        (
            "/v1/responses",
            {"input": [{"content": [{"type": "input_file", "file_url": "http://a"}]}]},
        ),
        (
            "/v1/messages",
            {
                "messages": [
                    {
                        "content": [
                            {
                                "type": "image",
                                "source": {"type": "url", "url": "http://a"},
                            }
                        ]
                    }
                ]
            },
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"content": [{"type": "video_url", "video_url": "http:"}]}]},
        ),
        ("/api/chat", {"messages": openai_part("http://a")}),
    ],
)
def test_addresses_hide_in_no_other_part(path: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=REMOTE):
        parse(path, **fields)


def test_addresses_in_texts_arguments_and_citations_are_only_text() -> None:
    messages = [
        {"role": "user", "content": "http://a/b.png"},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "input": {"image_url": "http://a"}},
                {
                    "type": "text",
                    "text": "see",
                    "annotations": [{"type": "url_citation", "url": "http://a"}],
                },
            ],
            "tool_calls": [{"function": {"arguments": {"image_url": "http://a"}}}],
        },
    ]
    found = parse("/v1/chat/completions", messages=messages)
    assert found["messages"] == messages


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"who knows", "image/png"),
    ],
)
def test_the_first_bytes_tell_the_media_type(head: bytes, kind: str) -> None:
    image = base64.b64encode(head + bytes(30)).decode()
    assert data_uri(image) == f"data:{kind};base64,{image}"
