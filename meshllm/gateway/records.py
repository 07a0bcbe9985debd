"""Pure: lets a stream's bytes through in whole lines or events.

A stream may break anywhere. An error can follow only a whole line: programs hand every
line to their JSON parser, and half of one followed by an error is a crash of theirs.
"""

from __future__ import annotations

from meshllm.dialects import NDJSON, SSE

ENDS = {NDJSON: (b"\n",), SSE: (b"\n\n", b"\r\n\r\n")}
# A longer record (a large tool call) goes through in pieces; should it then break off,
# the connection breaks off too.
HELD_LIMIT = 65_536  # bytes


class Records:
    """The unfinished end of a stream; `is_torn` once half a record was let through."""

    def __init__(self, media_type: str) -> None:
        self._ends = ENDS[media_type]
        self._held = bytearray()
        self.is_torn = False

    def feed(self, chunk: bytes) -> bytes:
        """What may be sent now; empty while the only record is unfinished."""
        if not self._held and chunk.endswith(self._ends):
            self.is_torn = False
            return chunk
        self._held += chunk
        cut = self._last_end(len(chunk))
        if len(self._held) - cut > HELD_LIMIT:
            self.is_torn = True
            return self.rest()
        if cut == 0:
            return b""
        self.is_torn = False
        whole = bytes(self._held[:cut])
        del self._held[:cut]
        return whole

    def rest(self) -> bytes:
        """What is held back, once the stream has ended as it should."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def _last_end(self, fresh: int) -> int:
        """Offset behind the last whole record; older bytes were searched before."""
        cut = 0
        for end in self._ends:
            start = max(0, len(self._held) - fresh - len(end) + 1)
            found = self._held.rfind(end, start)
            if found >= 0:
                cut = max(cut, found + len(end))
        return cut
