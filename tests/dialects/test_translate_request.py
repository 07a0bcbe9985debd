"""Ollama's requests as an OpenAI-compatible server gets them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from meshllm.dialects import BadRequest
from meshllm.dialects.options import Flavor, Target
from meshllm.dialects.translate_request import Loaded, Translated, translate_request

LLAMA = Target(Flavor.LLAMA_CPP, "tiny", "Tiny:latest", context_length=8192)
OTHER = Target(Flavor.GENERIC, "tiny", "tiny", context_length=8192)
PLAIN = Target(
    Flavor.LLAMA_CPP, "tiny", "Tiny:latest", 8192, capabilities=("completion",)
)
HI = [{"role": "user", "content": "hi"}]
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


def chat(target: Target = LLAMA, **fields: Any) -> dict[str, Any]:
    found = translate_request(
        "/api/chat", {"model": "tiny", "messages": HI} | fields, target
    )
    assert isinstance(found, Translated)
    return found.body


def generate(target: Target = LLAMA, **fields: Any) -> Translated:
    found = translate_request(
        "/api/generate", {"model": "tiny", "prompt": "hi"} | fields, target
    )
    assert isinstance(found, Translated)
    return found


def refused(path: str = "/api/chat", target: Target = LLAMA, **fields: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        base = {"model": "tiny", "messages": HI, "prompt": "hi"}
        translate_request(path, base | fields, target)
    return f"{caught.value.status} {caught.value}"


def test_a_chat_for_llama_cpp_has_ollamas_defaults() -> None:
    assert chat() == {
        "model": "tiny",
        "messages": HI,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "n_keep": 4,
        "n_predict": 4096,
    }


def test_a_chat_for_a_strict_server_has_only_what_openai_knows() -> None:
    options = {"top_k": 5, "temperature": 0, "seed": 7, "stop": ["x"], "num_ctx": 9}
    assert chat(OTHER, options=options, think=False, keep_alive="5m") == {
        "model": "tiny",
        "messages": HI,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "seed": 7,
        "stop": ["x"],
        "max_tokens": 2048,
    }


def test_options_go_by_llama_cpps_names() -> None:
    options = {
        "num_predict": 12,
        "num_keep": 3,
        "seed": 42.0,
        "top_k": 10,
        "typical_p": 0.7,
        "repeat_last_n": 33,
        "stop": ["a", "b"],
        "num_ctx": 99,
        "num_gpu": 1,
        "unheard_of": {},
        "temperature": None,
    }
    body = chat(options=options)
    assert body["n_predict"] == 12
    assert body["n_keep"] == 3
    assert body["seed"] == 42
    assert isinstance(body["seed"], int)
    assert (body["top_k"], body["typical_p"], body["repeat_last_n"]) == (10, 0.7, 33)
    assert body["stop"] == ["a", "b"]
    assert body["temperature"] == 0.8
    assert not body.keys() & {"num_ctx", "num_gpu", "num_predict", "unheard_of"}


@pytest.mark.parametrize("asked", [None, -1, -2])
@pytest.mark.parametrize(
    ("target", "cap"),
    [
        (LLAMA, 4096),
        (OTHER, 2048),
        (Target(Flavor.LLAMA_CPP, "m", "m"), 4096),
        (Target(Flavor.GENERIC, "m", "m"), 4096),
        (Target(Flavor.LLAMA_CPP, "m", "m", 256), 256),
        (Target(Flavor.GENERIC, "m", "m", 131072), 4096),
    ],
)
def test_an_open_ended_answer_has_a_cap(
    asked: int | None, target: Target, cap: int
) -> None:
    body = chat(target, options={"num_predict": asked})
    assert body.get("n_predict", body.get("max_tokens")) == cap


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": "7"}, '500 option "seed" must be of type integer'),
        ({"num_predict": True}, '500 option "num_predict" must be of type integer'),
        ({"top_p": "1"}, '500 option "top_p" must be of type float32'),
        ({"stop": "x"}, '500 option "stop" must be of type array'),
        ({"stop": [1]}, '500 option "stop" must be of an array of strings'),
    ],
)
def test_an_option_of_the_wrong_type(options: dict[str, Any], says: str) -> None:
    assert refused(options=options) == says


def test_formats() -> None:
    assert "response_format" not in chat(format="")
    assert "response_format" not in chat(format=None)
    assert chat(format="json")["response_format"] == {"type": "json_object"}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = chat(format=schema)["response_format"]
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["schema"] == schema
    assert refused(format="xml").startswith("500 invalid format: 'xml'; expected")


@pytest.mark.parametrize(
    ("think", "llama", "other"),
    [
        (None, {}, {}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}}, {}),
        (True, {"chat_template_kwargs": {"enable_thinking": True}}, {}),
        (
            "max",
            {
                "chat_template_kwargs": {
                    "enable_thinking": True,
                    "reasoning_effort": "max",
                }
            },
            {"reasoning_effort": "high"},
        ),
        (
            "low",
            {
                "chat_template_kwargs": {
                    "enable_thinking": True,
                    "reasoning_effort": "low",
                }
            },
            {"reasoning_effort": "low"},
        ),
    ],
)
def test_thinking(think: Any, llama: dict[str, Any], other: dict[str, Any]) -> None:
    fields = {"chat_template_kwargs", "reasoning_effort"}
    for target, wanted in ((LLAMA, llama), (OTHER, other)):
        body = chat(target, think=think)
        assert {key: body[key] for key in fields & body.keys()} == wanted


def test_what_a_model_cannot_do_is_said_in_ollamas_words() -> None:
    name = '400 "Tiny:latest" does not support'
    assert refused(target=PLAIN, think=True) == f"{name} thinking"
    assert refused(target=PLAIN, think="low") == f"{name} thinking"
    assert refused(target=PLAIN, tools=[{}]) == f"{name} tools"
    assert refused("/api/generate", PLAIN, suffix="x") == f"{name} insert"
    embedder = Target(Flavor.LLAMA_CPP, "e", "e", capabilities=("embedding",))
    assert refused(target=embedder) == '400 "e" does not support chat'
    assert refused("/api/generate", embedder) == '400 "e" does not support generate'
    assert refused(think="loud").startswith("400 invalid think value")
    chat(PLAIN, think=False)  # accepted anywhere


def test_images_are_parts_with_data_uris() -> None:
    message = {"role": "user", "content": "see", "images": [PNG]}
    assert chat(messages=[message])["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {
                    "type": "image_url",
                    "image_url": {"url": f"data:image/png;base64,{PNG}"},
                },
            ],
        }
    ]
    found = generate(prompt="see", images=[PNG]).body["messages"]
    assert found[0]["content"][1]["type"] == "image_url"
    assert "image input" in refused(target=PLAIN, messages=[message])


def test_tool_calls_get_ids_and_results_find_them() -> None:
    def call(name: str, **more: Any) -> dict[str, Any]:
        return {"function": {"name": name, "arguments": {"b": 1, "a": "é"}}, **more}

    messages = [
        *HI,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [call("f"), call("g"), call("f", id="call_own"), call("h")],
        },
        {"role": "tool", "content": "by name", "tool_name": "g"},
        {"role": "tool", "content": "by id", "tool_call_id": "call_own"},
        {"role": "tool", "content": "by order"},
        {"role": "tool", "content": "the last"},
    ]
    found = chat(messages=messages)["messages"]
    calls = found[1]["tool_calls"]
    ids = [made["id"] for made in calls]
    assert len(set(ids)) == 4
    assert ids[2] == "call_own"
    assert calls[0]["type"] == "function"
    assert calls[0]["function"] == {"name": "f", "arguments": '{"b":1,"a":"é"}'}
    results = [message["tool_call_id"] for message in found[2:]]
    assert results == [ids[1], "call_own", ids[0], ids[3]]
    assert chat(messages=messages)["messages"] == found  # the same ids every turn


def test_tools_are_passed_on_and_thoughts_given_back() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    past = {"role": "Assistant", "content": "yes", "thinking": "hm"}
    body = chat(messages=[past, *HI], tools=tools)
    assert body["tools"] == tools
    assert body["messages"][0] == {
        "role": "assistant",
        "content": "yes",
        "reasoning_content": "hm",
    }
    assert "reasoning_content" not in chat(OTHER, messages=[past, *HI])["messages"][0]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "wizard", "content": "x"}, "invalid role"),
        ({"content": "x"}, "invalid role"),
        ({"role": "user", "content": ["x"]}, '"content" must be a string'),
        ({"role": "assistant", "tool_calls": [{}]}, "a function with a name"),
    ],
)
def test_messages_that_say_nothing(message: dict[str, Any], says: str) -> None:
    assert says in refused(messages=[message])


def test_logprobs() -> None:
    assert "logprobs" not in chat(top_logprobs=3)
    assert chat(logprobs=True)["top_logprobs"] == 1
    body = chat(logprobs=True, top_logprobs=3)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    raw = generate(raw=True, logprobs=True, top_logprobs=3).body
    assert raw["logprobs"] == 3
    assert "top_logprobs" not in raw
    assert refused(top_logprobs=21) == "400 top_logprobs must be between 0 and 20"
    assert refused(top_logprobs=-1) == "400 top_logprobs must be between 0 and 20"


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize(
    ("keep_alive", "reason"),
    [
        (None, "load"),
        (300, "load"),
        (-1, "load"),
        ("5m", "load"),
        ("1h30m", "load"),
        ("-1s", "load"),
        (0, "unload"),
        ("0", "unload"),
        ("0s", "unload"),
    ],
)
def test_nothing_to_ask_only_loads(path: str, keep_alive: Any, reason: str) -> None:
    request = {"model": "tiny", "messages": [], "prompt": "", "keep_alive": keep_alive}
    assert translate_request(path, request, LLAMA) == Loaded(reason)


@pytest.mark.parametrize(
    ("keep_alive", "says"),
    [
        ("300", '400 time: missing unit in duration "300"'),
        ("soon", '400 time: invalid duration "soon"'),
        ("", '400 time: invalid duration ""'),
        ([], '400 "keep_alive" must be'),
    ],
)
def test_a_keep_alive_that_is_no_duration(keep_alive: Any, says: str) -> None:
    assert refused(keep_alive=keep_alive).startswith(says)


@pytest.mark.parametrize(
    ("stream", "streams"), [({}, True), ({"stream": None}, True), ({"stream": 0}, True)]
)
def test_ollama_streams_unless_told_otherwise(
    stream: dict[str, Any], streams: bool
) -> None:
    assert generate(**stream).stream is streams
    assert generate(stream=False).stream is False
    assert generate(stream=False).body["stream"] is True  # or nothing could cancel it


def test_generate_is_a_chat_of_system_and_prompt() -> None:
    found = generate(system="be kind", context=[], template="")
    assert found.path == "/v1/chat/completions"
    assert found.body["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]


def test_raw_goes_in_as_it_is() -> None:
    found = generate(raw=True)
    assert found.path == "/v1/completions"
    assert found.body["prompt"] == "hi"
    assert "messages" not in found.body
    says = "400 raw mode does not support template, system, or context"
    assert refused("/api/generate", raw=True, system="x") == says
    assert refused("/api/generate", raw=True, context=[1]) == says


def test_raw_with_a_format() -> None:
    schema = {"type": "object", "required": ["a"]}
    assert generate(raw=True, format=schema).body["json_schema"] == schema
    assert generate(raw=True, format="json").body["json_schema"] == {"type": "object"}
    assert "response_format" in generate(OTHER, raw=True, format=schema).body


def test_what_only_ollama_itself_can_do_is_refused_not_ignored() -> None:
    assert '400 "template" is not' in refused("/api/generate", template="{{.}}")
    assert '400 "context" is not' in refused("/api/generate", context=[1, 2])
    assert "does not support insert" in refused("/api/generate", suffix="end")
    found = generate(OTHER, suffix="end")
    assert (found.path, found.body["suffix"]) == ("/v1/completions", "end")
    assert '"prompt" must be a string' in refused("/api/generate", prompt=["x"])
