"""What a request may look like, and what the answer is when it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.dialects import BadRequest, parse_request

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def refused(body: bytes, path: str = "/api/chat") -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_request(body, path)
    return caught.value


def test_a_request_comes_back_with_fields_nobody_knows() -> None:
    body = b'{"model":"m","new_field":{"a":[1]},"messages":[{"role":"user","x":1}]}'
    assert parse_request(body, "/api/chat") == json.loads(body)


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_an_empty_body_is_a_missing_one(body: bytes) -> None:
    assert str(refused(body)) == "missing request body"
    assert refused(body).status == 400


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'"model"', "must be a JSON object"),
        (CHAT + b"{}", "not JSON"),
        (b"\xef\xbb\xbf" + CHAT, "not JSON"),
        (CHAT.decode().encode("utf-16"), "not UTF-8"),
        (b'{"model":"\xff"}', "not UTF-8 at byte 10"),
        (b'{"model":"m","x":NaN}', "NaN is not a number"),
        (b'{"model":"m","x":-Infinity}', "Infinity is not a number"),
        (b'{"model":"m","x":1e999}', "number out of range"),
        (b'{"model":"m","x":' + b"9" * 30 + b"}", "number out of range"),
        (b'{"model":"m","x":' + b"9" * 9000 + b"}", "number out of range"),
        (b'{"model":"m","x":"\\ud83d"}', "lone surrogate"),
        (b'{"model":"m","\\udfff":1}', "lone surrogate"),
        (b'{"model":"m","x":' + b"[" * 300 + b"]" * 300 + b"}", "too deep"),
        (b'{"model":"m","x":' + b'{"a":' * 90_000, "too deep"),
        (b"[" * 500_000, "too deep"),
        (b'{"model":7}', '"model" must be a string'),
        (b'{"model":"m","messages":"hi"}', '"messages" must be a list'),
        (b'{"model":"m","messages":["hi"]}', "message 0 must be an object"),
        (b'{"model":"m","options":[]}', '"options" must be an object'),
        (b'{"model":"m","stream":"yes"}', '"stream" must be true or false'),
    ],
)
def test_what_is_no_request_is_a_400_that_says_why(body: bytes, says: str) -> None:
    assert says in str(refused(body))
    assert refused(body).status == 400


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"model":"a","model":"b"}', 'key "model" is repeated in the request'),
        (
            b'{"model":"allowed","Model":"forbidden"}',
            'keys "model" and "Model" differ only by case in the request',
        ),
        # Go folds these too: U+212A is K, U+017F is s.
        (b'{"model":"m","keep_alive":1,"\\u212aeep_alive":9}', "differ only by case"),
        (b'{"model":"m","options":{"seed":1,"seed":2}}', '"options"'),
        (b'{"model":"m","options":{"seed":1,"SEED":2}}', '"options"'),
        (b'{"model":"m","messages":[{},{"role":"a","Role":"b"}]}', "message 1"),
        (b'{"model":"m","zebra":1,"zebra":2}', "zebra"),
    ],
)
def test_two_keys_for_one_field_are_refused(body: bytes, says: str) -> None:
    assert says in str(refused(body))


@pytest.mark.parametrize(
    "field", ["tools", "format", "response_format", "arguments", "unknown"]
)
def test_inside_the_programs_own_objects_keys_are_its_own(field: str) -> None:
    body = f'{{"model":"m","{field}":{{"a":1,"A":2,"b":{{"c":1,"c":2}}}}}}'.encode()
    found = parse_request(body, "/api/chat")[field]
    assert found == {"a": 1, "A": 2, "b": {"c": 2}}


def test_arguments_of_a_tool_call_may_repeat_keys() -> None:
    call = b'{"function":{"name":"f","arguments":{"x":1,"X":2,"x":3}}}'
    body = b'{"model":"m","messages":[{"role":"assistant","tool_calls":[%s]}]}' % call
    message = parse_request(body, "/api/chat")["messages"][0]
    assert message["tool_calls"][0]["function"]["arguments"] == {"x": 3, "X": 2}


def test_a_known_field_in_another_case_is_the_field() -> None:
    """Ollama would honour it; a limit that overlooked it would be none."""
    messages = b'"me\\u017f\\u017fages":[{"Role":"user"}]'  # Go folds U+017F to s
    body = b'{"MODEL":"m","Options":{"Num_Ctx":9},%s}' % messages
    assert parse_request(body, "/api/chat") == {
        "model": "m",
        "options": {"num_ctx": 9},
        "messages": [{"role": "user"}],
    }


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/chat", 400, "model is required"),
        ("/api/show", 400, "model is required"),
        ("/api/embeddings", 400, "model is required"),
        ("/v1/completions", 400, "model is required"),
        ("/api/generate", 404, "model '' not found"),
        ("/api/embed", 404, "model '' not found"),
    ],
)
def test_a_request_without_a_model(path: str, status: int, text: str) -> None:
    error = refused(b'{"prompt":"x"}', path)
    assert (error.status, str(error)) == (status, text)


def test_show_takes_the_old_name_of_its_field() -> None:
    assert parse_request(b'{"name":"m"}', "/api/show") == {"model": "m"}


@pytest.mark.parametrize("messages", [b"[]", b"null"])
def test_openai_chat_wants_messages_and_ollama_does_not(messages: bytes) -> None:
    body = b'{"model":"m","messages":%s}' % messages
    assert "too short - 'messages'" in str(refused(body, "/v1/chat/completions"))
    assert parse_request(body, "/api/chat")["model"] == "m"


def test_a_clash_among_a_million_keys_is_found_in_one_pass() -> None:
    keys = ",".join(f'"k{n}":0' for n in range(100_000))
    assert "k99999" in str(refused(f'{{{keys},"k99999":0}}'.encode()))


def test_a_prompt_of_20_mb_is_read() -> None:
    prompt = "aé\n" * 5_000_000
    body = json.dumps({"model": "m", "prompt": prompt}, ensure_ascii=False).encode()
    assert len(body) > 20_000_000
    assert parse_request(body, "/api/generate")["prompt"] == prompt


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_in_an_unknown_field_is_kept(value: Any) -> None:
    body = json.dumps({"model": "m", "zz": value}).encode()
    assert parse_request(body, "/api/show")["zz"] == value


@given(st.binary(max_size=200))
def test_bytes_of_strangers_raise_nothing_but_bad_request(body: bytes) -> None:
    try:
        found = parse_request(body, "/api/chat")
    except BadRequest as error:
        assert 400 <= error.status < 500
    else:
        assert isinstance(found, dict)
