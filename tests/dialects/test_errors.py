"""Errors and keep-alives, byte for byte, as each API's clients read them."""

from __future__ import annotations

import pytest

from meshllm.dialects import Api, api_of, error_body, keep_alive, stream_error

WHEN = "2026-01-02T03:04:05.000000006Z"


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/api/chat", Api.OLLAMA),
        ("/", Api.OLLAMA),
        ("/v1", Api.OPENAI),
        ("/v1/models", Api.OPENAI),
        ("/v10", Api.OLLAMA),
    ],
)
def test_the_path_tells_the_api(path: str, api: Api) -> None:
    assert api_of(path) is api


def test_ollamas_error_is_one_field() -> None:
    body = error_body(Api.OLLAMA, 404, "model 'x' not found")
    assert body == b'{"error":"model \'x\' not found"}'


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
    ],
)
def test_openais_error_has_a_type_by_status(status: int, kind: str) -> None:
    assert error_body(Api.OPENAI, status, "no", code="busy") == (
        b'{"error":{"message":"no","type":"%s","param":null,"code":"busy"}}'
        % kind.encode()
    )


def test_a_broken_ollama_stream_ends_with_an_error_line() -> None:
    assert stream_error(Api.OLLAMA, "gone") == b'{"error":"gone"}\n'


def test_a_broken_openai_stream_ends_with_an_error_event() -> None:
    assert stream_error(Api.OPENAI, "gone") == (
        b'data: {"error":{"message":"gone","type":"api_error","param":null,'
        b'"code":null}}\n\n'
    )


@pytest.mark.parametrize("api", Api)
def test_a_line_that_was_cut_is_ended_before_the_error(api: Api) -> None:
    whole = stream_error(api, "gone")
    cut = stream_error(api, "gone", at_line_start=False)
    assert cut.lstrip(b"\n") == whole
    assert cut.startswith(b"\n")


def test_keep_alives_are_chunks_without_content_never_blank_lines() -> None:
    assert keep_alive("/api/chat", "m", WHEN) == (
        b'{"model":"m","created_at":"2026-01-02T03:04:05.000000006Z",'
        b'"message":{"role":"assistant","content":""},"done":false}\n'
    )
    assert keep_alive("/api/generate", "m", WHEN) == (
        b'{"model":"m","created_at":"2026-01-02T03:04:05.000000006Z",'
        b'"response":"","done":false}\n'
    )
    assert keep_alive("/v1/chat/completions", "m", WHEN) == b": keep-alive\n\n"
