"""An HTTP server that plays a script of raw bytes, and notes what clients did.

A script is a list of steps: bytes to write, a Gate to wait at, or BREAK to drop the
connection. Nothing here knows what a model server's answer should look like.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Gate = asyncio.Event


class Cut(Enum):
    """The one step that is no data: the connection is dropped there."""

    BREAK = "break"


BREAK = Cut.BREAK
Step = bytes | Gate | Cut


@dataclass
class Answer:
    """What one request gets. `head_gate` holds back even the status line."""

    steps: Sequence[Step]
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    head_gate: Gate | None = None


@dataclass
class Seen:
    """A request as it came, and how its client behaved."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    # Set when the client closed its socket before the answer was whole.
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    # Set when the last step was written.
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0  # bytes of the body that the client's socket took

    @property
    def json(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.raw)
        return body


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer([json.dumps(value).encode()], status)


class ScriptedServer:
    """`async with ScriptedServer(handler) as server:`, then `server.url`. `sock` is
    bound where it shall listen, if not on loopback."""

    def __init__(
        self,
        handler: Callable[[Seen], Answer],
        *,
        server_name: str = "",
        sock: socket.socket | None = None,
    ) -> None:
        self._handler = handler
        self._sock = sock
        self._server_name = server_name
        self.requests: list[Seen] = []
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> ScriptedServer:
        where = {"sock": self._sock} if self._sock else {"host": "127.0.0.1", "port": 0}
        self._server = await asyncio.start_server(self._accept, **where)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._server.wait_closed()

    async def seen(self, path: str, count: int = 1) -> Seen:
        """Waits for the count-th request to a path."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.to(path)) >= count)
        return self.to(path)[count - 1]

    def to(self, path: str) -> list[Seen]:
        return [seen for seen in self.requests if seen.path == path]

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # clients may go whenever they like
        except asyncio.CancelledError:
            pass  # only __aexit__ cancels; asyncio.streams would log it as an error
        finally:
            self._talks.discard(talk)
            writer.transport.abort()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        headers = {name.lower(): value for name, value in pairs}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(method, path, headers, raw)
        answer = self._handler(seen)
        async with self._arrived:
            self.requests.append(seen)
            self._arrived.notify_all()
        writing = asyncio.ensure_future(self._write(writer, seen, answer))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({writing, leaving}, return_when="FIRST_COMPLETED")
            if not writing.done():
                seen.hung_up.set()
        finally:
            for task in (writing, leaving):
                task.cancel()
            results = await asyncio.gather(writing, leaving, return_exceptions=True)
            if isinstance(results[0], ConnectionError):
                seen.hung_up.set()

    async def _write(
        self, writer: asyncio.StreamWriter, seen: Seen, answer: Answer
    ) -> None:
        if answer.head_gate is not None:
            await answer.head_gate.wait()
        # Drained means that the socket has it all: `_accept` drops what it has not.
        writer.transport.set_write_buffer_limits(high=0)
        headers = {
            "Content-Type": answer.content_type,
            "Transfer-Encoding": "chunked",
            "Connection": "close",
            **({"Server": self._server_name} if self._server_name else {}),
            **answer.headers,
        }
        lines = [f"HTTP/1.1 {answer.status} Scripted"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        for step in answer.steps:
            if step is BREAK:
                await writer.drain()
                return
            if isinstance(step, Gate):
                await step.wait()
            elif step and seen.method != "HEAD":
                writer.write(b"%x\r\n%s\r\n" % (len(step), step))
                await writer.drain()
                seen.sent += len(step)
        if seen.method != "HEAD":
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        seen.finished.set()
        with contextlib.suppress(ConnectionError):
            writer.write_eof()
