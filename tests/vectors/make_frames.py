"""Makes frames.json: what each frame and head looks like in bytes, and what is refused.

`python -m tests.vectors.make_frames` from the root of the repository. Every
implementation of docs/protocol.md §6 reads the file; a change here is a change of the
protocol. Bytes are hexadecimal. A message with `repeat` is its `hex` so many times.
"""

from __future__ import annotations

import json
from dataclasses import fields
from enum import IntEnum
from pathlib import Path
from typing import Any

from meshllm.errors import Code
from meshllm.protocol import frames as f
from meshllm.protocol.exchange import RequestHead, ResponseHead, encode_head

FILE = Path(__file__).with_name("frames.json")
SESSION = bytes(range(16))
STATES = (
    f.StreamState(1, 66, 262_209, 1),
    f.StreamState(2, 70_000, 332_144, 0),
    f.StreamState(3, 0, 65_536, 2),
)
FRAMES: list[tuple[str, f.Frame]] = [
    ("HELLO of the offerer", f.Hello(1, bytes(range(32)), bytes(range(64, 128)))),
    ("HELLO of the answerer", f.Hello(2, bytes(32), bytes(range(128, 192)))),
    ("OPEN", f.Open(SESSION, 1)),
    ("RESUME with three streams", f.Resume(SESSION, 7, STATES)),
    ("RESUME without streams", f.Resume(SESSION, 2**32 - 1, ())),
    ("READY to OPEN", f.Ready(1, ())),
    ("READY with three streams", f.Ready(7, STATES)),
    (
        "READY with 128 streams",
        f.Ready(8, tuple(f.StreamState(n, n, 65_536, 0) for n in range(1, 129))),
    ),
    ("DATA", f.Data(1, 0, False, b"hello")),
    ("DATA with FIN", f.Data(2**32 - 1, 2**40, True, "häppy".encode())),
    ("DATA with FIN alone", f.Data(3, 5, True, b"")),
    ("DATA that only begins a stream", f.Data(4, 0, False, b"")),
    ("DATA up to the last offset", f.Data(5, 2**48 - 2, False, b"x")),
    ("ACK", f.Ack(1, 32_768, 294_912)),
    ("ACK of the largest values", f.Ack(1, 2**48, 2**48)),
    ("RESET, a cancel", f.Reset(9, Code.CANCELLED, False, "")),
    ("RESET, retryable", f.Reset(9, Code.DRAINING, True, "Später noch einmal.")),
    ("PATHACK", f.PathAck(98_304)),
    ("PING", f.Ping(1)),
    ("PONG", f.Pong(2**32 - 1)),
    ("PAD", f.Pad()),
    ("GOAWAY", f.GoAway(12, Code.DRAINING, "The provider is shutting down.")),
    ("SIGNAL", f.Signal(b"an envelope")),
    ("CLOSE", f.Close(Code.UNKNOWN_SESSION, "This session is not known.")),
    ("INFO", f.Info(3, b'{"queue":2}')),
]

DATA = "10000f000000010000000000000000006869"  # stream 1, offset 0, "hi"
PAD = "220000"
MESSAGES: list[tuple[str, str, int, list[str]]] = [
    ("nothing", "", 1, []),
    ("two frames in one message", DATA + PAD, 1, ["DATA", "PAD"]),
    ("an unknown optional type is skipped", PAD + "f00003616263" + PAD, 1, ["PAD"] * 2),
    ("the last optional type, empty", "ff0000" + PAD, 1, ["PAD"]),
    ("a code of a later version reads as internal", "25000203e8", 1, ["CLOSE"]),
    ("as long as a message may be", PAD * 2 + "f03ff7" + "00" * 16_375, 1, ["PAD"] * 2),
]
MALFORMED: list[tuple[str, str, int]] = [
    ("an unknown type below 0x80", "050000", 1),
    ("the highest unknown type below 0x80", "7f0000", 1),
    ("type 0", "000000", 1),
    ("a cut header", "2200", 1),
    ("a cut payload", "2000040000", 1),
    ("a whole frame, then a cut one", PAD + "20", 1),
    ("a message of more than 16,384 bytes", PAD, 5_462),
    ("HELLO too short", "010060" + "00" * 96, 1),
    ("HELLO too long", "010062" + "00" * 98, 1),
    ("OPEN without its epoch", "020010" + "00" * 16, 1),
    ("OPEN too long", "020015" + "00" * 21, 1),
    ("RESUME shorter than its head", "030014" + "00" * 20, 1),
    ("RESUME with a stream too few", "030015" + "00" * 20 + "01", 1),
    ("RESUME with bytes left over", "030016" + "00" * 20 + "0000", 1),
    (
        "RESUME with a state of 3",
        "03002a" + "00" * 20 + "01" + "00000001" + "00" * 16 + "03",
        1,
    ),
    (
        "RESUME with rx beyond 2^48",
        "03002a" + "00" * 20 + "01" + "00000001" + "0001000000000001" + "00" * 9,
        1,
    ),
    (
        "RESUME with a stream twice",
        "03003f" + "00" * 20 + "02" + ("00000001" + "00" * 17) * 2,
        1,
    ),
    (
        "READY with 129 streams",
        "040a9a00000001" + "81" + "".join(f"{n:08x}" + "00" * 17 for n in range(129)),
        1,
    ),
    ("READY shorter than its head", "04000400000001", 1),
    ("DATA shorter than its head", "10000c" + "00" * 12, 1),
    ("DATA with an unknown flag", "10000d000000010000000000000000" + "02", 1),
    ("DATA that ends at 2^48", "10000e000000010000ffffffffffff00" + "78", 1),
    ("DATA at the largest offset", "10000d00000001ffffffffffffffff00", 1),
    ("ACK too short", "110013" + "00" * 19, 1),
    ("ACK too long", "110015" + "00" * 21, 1),
    ("ACK beyond 2^48", "1100140000000100010000000000010000000000000000", 1),
    ("credit beyond 2^48", "1100140000000100000000000000000001000000000001", 1),
    ("RESET without its code", "12000400000001", 1),
    ("RESET with a retryable of 2", "12000700000001000b02", 1),
    ("RESET whose text is not UTF-8", "12000800000001000b00ff", 1),
    ("RESET whose text has 513 bytes", "12020800000001000b00" + "61" * 513, 1),
    ("PATHACK too short", "130007" + "00" * 7, 1),
    ("PING too long", "2000050000000100", 1),
    ("PONG too short", "210003000001", 1),
    ("PAD with a payload", "22000100", 1),
    ("GOAWAY without its code", "23000400000001", 1),
    ("GOAWAY whose text is not UTF-8", "23000700000001000fc3", 1),
    ("SIGNAL without an envelope", "240000", 1),
    ("SIGNAL beyond 12,288 bytes", "243001" + "00" * 12_289, 1),
    ("CLOSE without its code", "25000100", 1),
    ("CLOSE whose text holds a surrogate", "2500050001eda080", 1),
    ("INFO without its stream", "800003000000", 1),
    ("INFO beyond 4,096 bytes", "801001" + "00" * 4_097, 1),
]

REQUEST = RequestHead("r-1", "POST", "/api/chat", "llama3:8b", "application/json")
HEADS: list[tuple[str, RequestHead | ResponseHead]] = [
    ("a request", REQUEST),
    ("a request without a model or body", RequestHead("2", "GET", "/", None, "")),
    ("a response", ResponseHead(200, "text/event-stream", {"queue": 1.5, "load": 0.0})),
    ("an error", ResponseHead(599, "application/json", {})),
]
BAD_REQUEST_HEADS: list[tuple[str, str]] = [
    ("not JSON", "{"),
    ("not UTF-8", '"\udcff"'),
    ("not an object", "[]"),
    ("no version", '{"id":"1","method":"GET","path":"/","model":null,"type":""}'),
    (
        "version true",
        '{"v":true,"id":"1","method":"GET","path":"/","model":null,"type":""}',
    ),
    (
        "version 2",
        '{"v":2,"id":"1","method":"GET","path":"/","model":null,"type":""}',
    ),
    ("no model", '{"v":1,"id":"1","method":"GET","path":"/","type":""}'),
    (
        "a model that is a number",
        '{"v":1,"id":"1","method":"GET","path":"/","model":7,"type":""}',
    ),
    (
        "an empty model",
        '{"v":1,"id":"1","method":"GET","path":"/","model":"","type":""}',
    ),
    (
        "an empty id",
        '{"v":1,"id":"","method":"GET","path":"/","model":null,"type":""}',
    ),
    (
        "an id with a space",
        '{"v":1,"id":"1 2","method":"GET","path":"/","model":null,"type":""}',
    ),
    (
        "a method in lower case",
        '{"v":1,"id":"1","method":"get","path":"/","model":null,"type":""}',
    ),
    (
        "a path that is a URL",
        '{"v":1,"id":"1","method":"GET","path":"http://x/","model":null,"type":""}',
    ),
    (
        "a path with a line break",
        '{"v":1,"id":"1","method":"GET","path":"/a\\n","model":null,"type":""}',
    ),
    (
        "a type with a line break",
        '{"v":1,"id":"1","method":"GET","path":"/","model":null,"type":"a\\r\\nb: c"}',
    ),
    ("a null type", '{"v":1,"id":"1","method":"GET","path":"/","model":null}'),
]
BAD_RESPONSE_HEADS: list[tuple[str, str]] = [
    ("no status", '{"type":"","timing":{}}'),
    ("a status that is text", '{"status":"200","type":"","timing":{}}'),
    ("a status that is true", '{"status":true,"type":"","timing":{}}'),
    ("an informational status", '{"status":199,"type":"","timing":{}}'),
    ("a status of 600", '{"status":600,"type":"","timing":{}}'),
    ("no timing", '{"status":200,"type":""}'),
    ("a timing that is a list", '{"status":200,"type":"","timing":[]}'),
    ("a time that is text", '{"status":200,"type":"","timing":{"a":"1"}}'),
    ("a time that is true", '{"status":200,"type":"","timing":{"a":true}}'),
    ("a time below zero", '{"status":200,"type":"","timing":{"a":-1}}'),
    ("a time without end", '{"status":200,"type":"","timing":{"a":1e999}}'),
    ("a name with a comma", '{"status":200,"type":"","timing":{"a,b":1}}'),
    (
        "33 times",
        '{"status":200,"type":"","timing":{'
        + ",".join(f'"t{n}":1' for n in range(33))
        + "}}",
    ),
]


def as_json(value: Any) -> Any:
    """A frame or head by the names of its fields, bytes in hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool | str | None | float):
        return value
    if isinstance(value, IntEnum | int):
        return int(value)
    if isinstance(value, f.Data | f.Ack):
        return as_json(value._asdict())
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}


def type_name(frame: f.Frame) -> str:
    return type(frame).__name__.upper()


def head_bytes(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return len(data).to_bytes(4, "big") + data


def vectors() -> dict[str, Any]:
    bad_heads = [("request", *bad) for bad in BAD_REQUEST_HEADS]
    bad_heads += [("response", *bad) for bad in BAD_RESPONSE_HEADS]
    return {
        "about": "docs/protocol.md §6. Made by make_frames.py.",
        "frames": [
            {
                "name": name,
                "hex": f.encode(frame).hex(),
                "frame": {"type": type_name(frame), **as_json(frame)},
            }
            for name, frame in FRAMES
        ],
        "messages": [
            {"name": name, "hex": hex, "repeat": repeat, "types": types}
            for name, hex, repeat, types in MESSAGES
        ],
        "malformed": [
            {"name": name, "hex": hex, "repeat": repeat, "error": "protocol"}
            for name, hex, repeat in MALFORMED
        ],
        "heads": [
            {
                "name": name,
                "kind": "request" if isinstance(head, RequestHead) else "response",
                "hex": encode_head(head).hex(),
                "head": as_json(head),
            }
            for name, head in HEADS
        ],
        "malformed_heads": [
            {
                "name": name,
                "kind": kind,
                "hex": head_bytes(text).hex(),
                "error": "protocol",
            }
            for kind, name, text in bad_heads
        ],
    }


def text() -> str:
    return json.dumps(vectors(), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
