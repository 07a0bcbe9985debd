"""Server-sent events, incrementally: bytes in, cut anywhere, whole events out.

The format is the HTML standard's `text/event-stream`; only `data` matters to us.
"""

from __future__ import annotations

from meshllm.errors import BackendError

# An image in a response fits; a server that never ends a line does not fill us up.
EVENT_LIMIT = 32 * 1024 * 1024
DONE = b"[DONE]"
PROGRESS = b'"prompt_progress":'  # quotes unescaped: never part of a model's text


class EventStream:
    """Splits a stream into the data of its events."""

    def __init__(self) -> None:
        self._partial = bytearray()  # the start of a line that has not ended
        self._data: list[bytes] = []  # data lines of the event that has not ended
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that this chunk completes. BackendError for one without end."""
        self._partial += chunk
        self._size += len(chunk)
        if self._size > EVENT_LIMIT:
            raise BackendError("The model server sent an event without end.")
        if b"\n" not in chunk and b"\r" not in chunk:
            return []
        # A CR at the very end may be half of a CRLF: it waits for the next byte.
        held = b"\r" if self._partial.endswith(b"\r") else b""
        text = bytes(self._partial[: len(self._partial) - len(held)])
        lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._partial = bytearray(lines.pop() + held)
        return self._events(lines)

    def end(self) -> list[bytes]:
        """The last event, of a server that leaves out the blank line behind it."""
        lines = [*bytes(self._partial).splitlines(), b""]
        self._partial.clear()
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line:
                self._size = len(self._partial)
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data.clear()
        return events


class ProgressFilter:
    """Takes llama.cpp's reports on the prompt, which nobody asked for, out of a stream.

    We ask for them: only while it has something to write does the server notice that
    the reader is gone. They all precede the answer; from its first event on the bytes
    are passed untouched. `progress` is the share of the prompt that is done.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._passing = False

    def feed(self, chunk: bytes) -> bytes:
        """What of the stream so far the asker is to see."""
        if self._passing:
            return chunk
        self._held += chunk
        kept = bytearray()
        while (end := self._held.find(b"\n\n")) >= 0:
            event = self._held[: end + 2]
            del self._held[: end + 2]
            if PROGRESS in event:
                continue
            kept += event
            # A named event may open the stream before any report does.
            if not event.startswith((b":", b"event: response.created")):
                self._passing = True
                kept += self.end()
                break
        return bytes(kept)

    def end(self) -> bytes:
        """What was still held back."""
        rest = bytes(self._held)
        self._held.clear()
        return b"" if PROGRESS in rest and not self._passing else rest
