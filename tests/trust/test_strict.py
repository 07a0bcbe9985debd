"""Strict JSON: one reading for everyone, and nothing that is sent crashes it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import MeshError, RemoteProtocolError
from meshllm.trust.strict import (
    INTEGER_MAX,
    b64,
    boolean,
    integer,
    listed,
    name,
    nested,
    nullable,
    parse_object,
    take,
    text,
)

MAX = 4_096


def parse(data: str | bytes) -> dict[str, Any]:
    raw = data.encode() if isinstance(data, str) else data
    return parse_object(raw, max_bytes=MAX)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES))
def test_json_comes_back(value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()

    assert parse_object(data, max_bytes=len(data)) == value


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(parse(data), dict)


JSONISH = st.text('{}[]":,\\/ud8019eE+-. ntfalserului\n\t', max_size=60)


@given(JSONISH)
def test_nothing_that_looks_like_json_crashes_it(data: str) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(parse(data), dict)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":"\t"}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":-1e400}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":' * 2_000,
        b"[" * MAX,
    ],
)
def test_what_is_no_strict_json_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not JSON"):
        parse_object(data, max_bytes=20_000)


@pytest.mark.parametrize("data", ["[]", "null", "1", '"a"', "true", "[{}]"])
def test_only_objects_are_objects(data: str) -> None:
    with pytest.raises(RemoteProtocolError, match="object"):
        parse(data)


@pytest.mark.parametrize(
    "data",
    [
        '{"a":"\\ud800"}',
        '{"\\udfff":1}',
        '{"a":["\\udc00"]}',
        '{"a":[1,{"b":{"\\uDBFF":null}}]}',
        '{"a":"\\n","b":[[],{"c":"x\\uD83D"}]}',
    ],
)
def test_a_lone_surrogate_is_no_text(data: str) -> None:
    with pytest.raises(RemoteProtocolError, match="surrogate"):
        parse(data)


def test_an_escape_of_something_else_is_text() -> None:
    assert parse('{"a\\u0041":["\\n\\\\ud800",{"b":1.5,"c":null}]}') == {
        "aA": ["\n\\ud800", {"b": 1.5, "c": None}]
    }


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse('{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


@pytest.mark.parametrize("number", [INTEGER_MAX, -INTEGER_MAX, 0])
def test_integers_reach_as_far_as_javascript_counts(number: int) -> None:
    assert parse(f'{{"a":[{number}]}}') == {"a": [number]}


@pytest.mark.parametrize(
    "digits", ["9007199254740992", "-9007199254740992", "1" + "0" * 17, "9" * 4_000]
)
def test_larger_integers_are_refused(digits: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(f'{{"a":{digits}}}')


def test_sixteen_levels_are_deep_enough() -> None:
    deepest = '{"a":' + "[" * 15 + "1" + "]" * 15 + "}"
    deeper = '{"a":' + "[" * 16 + "1" + "]" * 16 + "}"
    objects = '{"a":' * 17 + "1" + "}" * 17

    assert parse(deepest)
    for wrong in (deeper, objects):
        with pytest.raises(RemoteProtocolError, match="deeply"):
            parse(wrong)


def test_what_is_beside_does_not_count_as_depth() -> None:
    wide = '{"a":[' + "[{}]," * 100 + "[]]}"

    assert len(parse(wide)["a"]) == 101


def test_the_place_sets_the_size() -> None:
    data = b'{"a":1}'

    assert parse_object(data, max_bytes=len(data))
    with pytest.raises(RemoteProtocolError, match="7 bytes of JSON; 6 are allowed"):
        parse_object(data, max_bytes=6)


READERS = {"a": integer(), "b": text(8)}


def test_exactly_the_named_fields_are_taken() -> None:
    assert take({"b": "x", "a": 1}, READERS) == {"a": 1, "b": "x"}


@pytest.mark.parametrize("fields", [{}, {"a": 1}, {"a": 1, "b": "x", "c": None}])
def test_missing_and_unknown_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError, match="missing or unknown"):
        take(fields, READERS)


def test_what_a_stranger_called_a_field_breaks_no_log_line() -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        take({"a\n2026-01-01 all is well\x1b[2J": 1} | {"a": 1, "b": "x"}, READERS)

    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 256


def test_a_refused_field_is_named() -> None:
    with pytest.raises(RemoteProtocolError, match="field b: text of 0 to 8"):
        take({"a": 1, "b": 5}, READERS)


@pytest.mark.parametrize("value", [-1, 4, 1.0, True, "1", None, [1]])
def test_an_integer_is_an_integer_in_bounds(value: object) -> None:
    assert integer(0, 3)(3) == 3
    with pytest.raises(RemoteProtocolError, match="from 0 to 3"):
        integer(0, 3)(value)


@pytest.mark.parametrize("value", ["", "abcd", 5, None, ["a"]])
def test_text_has_a_length(value: object) -> None:
    assert text(3, 1)("abc") == "abc"
    with pytest.raises(RemoteProtocolError, match="1 to 3 characters"):
        text(3, 1)(value)


@pytest.mark.parametrize("control", ["\0", "\n", "\x1b", "\x7f", "\x85", "\x9f"])
def test_text_has_no_control_characters(control: str) -> None:
    with pytest.raises(RemoteProtocolError, match="control"):
        text(8)(f"a{control}b")


def test_a_name_has_1_to_64_characters_whatever_their_bytes() -> None:
    assert name("😀" * 64) == "😀" * 64
    for wrong in ("", "a" * 65):
        with pytest.raises(RemoteProtocolError):
            name(wrong)


@pytest.mark.parametrize("value", [0, 1, None, "true"])
def test_a_boolean_is_true_or_false(value: object) -> None:
    assert boolean(True) is True
    assert boolean(False) is False
    with pytest.raises(RemoteProtocolError, match="true or false"):
        boolean(value)


def test_bytes_have_their_size() -> None:
    assert b64(3)("AAAA") == bytes(3)
    with pytest.raises(MeshError):
        b64(4)("AAAA")


def test_null_where_it_may_be() -> None:
    assert nullable(integer())(None) is None
    assert nullable(integer())(1) == 1
    with pytest.raises(RemoteProtocolError):
        nullable(integer())("1")


@pytest.mark.parametrize("value", [[], [1, 2, 3], ["1"], (1,), None, {"0": 1}])
def test_a_list_has_its_length_and_kind(value: object) -> None:
    assert listed(integer(), 2, 1)([1, 2]) == (1, 2)
    with pytest.raises(RemoteProtocolError):
        listed(integer(), 2, 1)(value)


@pytest.mark.parametrize("value", [[], None, "x", 1])
def test_an_object_inside_an_object(value: object) -> None:
    assert nested(lambda fields: len(fields))({"a": 1}) == 1
    with pytest.raises(RemoteProtocolError, match="object expected"):
        nested(lambda fields: len(fields))(value)
