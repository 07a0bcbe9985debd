"""A client's side of a WebSocket in bytes (RFC 6455): the handshake and the frames."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterator
from typing import Final

CONTINUATION: Final = 0  # opcodes, §5.2
TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


def upgrade(host: str, **changed: str) -> bytes:
    """What a browser behind a proxy sends; `changed` has headers in Python's spelling,
    "" for one that is left out."""
    headers = {
        "Host": host,
        "Connection": "keep-alive, Upgrade",
        "Pragma": "no-cache",
        "Cache-Control": "no-cache",
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like "
        "Gecko) Chrome/140.0.0.0 Safari/537.36",
        "Upgrade": "websocket",
        "Origin": f"http://{host}",
        "Sec-WebSocket-Version": "13",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Accept-Language": "en-GB,en;q=0.9",
        "Sec-WebSocket-Key": b64encode(secrets.token_bytes(16)).decode(),
        "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "http",
    }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    return f"GET /v1/signal HTTP/1.1\r\n{lines}\r\n".encode()


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Masked, as a client's must be."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    mask = secrets.token_bytes(4)
    pad = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")
    first = bytes([fin << 7 | opcode])
    return first + length + mask + masked.to_bytes(size, "big")


class Frames:
    """Whole frames of a server, out of bytes as they come."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of each that is now whole."""
        self._data += data
        while (found := _first(self._data)) is not None:
            start, stop = found
            opcode, payload = self._data[0] & 15, self._data[start:stop]
            self._data = self._data[stop:]
            yield opcode, payload


def _first(data: bytes) -> tuple[int, int] | None:
    """From where to where the payload of the first frame reaches, when it is whole."""
    if len(data) < 2:
        return None
    start, size = 2, data[1]
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
    return (start, start + size) if len(data) >= start + size else None
