"""Pure: what one side says about its end of a peer connection (docs/protocol.md §4).

A Description is the part of an SDP offer or answer that a data channel needs. Others'
SDP text is never passed on: it is read into these fields, and written from them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from meshllm.errors import LocalProtocolError, RemoteProtocolError
from meshllm.trust.keys import b64encode
from meshllm.trust.strict import b64, boolean, integer, listed, nested, nullable, take

CANDIDATES_MAX: Final = 40
SCTP_PORT: Final = 5_000
MESSAGE_MAX: Final = 16_384  # of a data channel message (docs/protocol.md §6)
SDP_MAX: Final = 65_536  # characters
HOST_MAX: Final = 69  # a label of 63 and .local

_MDNS = re.compile(r"[A-Za-z0-9-]{1,63}\.local")
_CANDIDATE = re.compile(
    r"a=candidate:(\S+) 1 (\S+) (\d{1,10}) (\S+) (\d{1,5}) typ (\S+)"
    r"(?: raddr (\S+))?(?: rport (\d{1,5}))?(?: .*)?"
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address where a peer may be reached (RFC 8445 §5.1.1).

    `host` is an IP address, or the `.local` name a browser hides it behind. The
    related address is the one behind a reflexive or relayed one.
    """

    foundation: str
    transport: str
    priority: int
    host: str
    port: int
    kind: str
    related_host: str | None = None
    related_port: int | None = None

    @property
    def is_named(self) -> bool:
        """A `.local` name, that has to be asked for on the LAN."""
        return is_mdns(self.host)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Candidate:
        return cls(**take(fields, _CANDIDATE_FIELDS))


@dataclass(frozen=True, slots=True)
class Description:
    """`fingerprint` is the SHA-256 of the certificate; `setup` is the DTLS role.

    An offer is `actpass`; an answer chose `active` (DTLS client) or `passive`. While it
    is not complete more candidates follow (RFC 8838).
    """

    fingerprint: bytes
    ufrag: str
    pwd: str
    setup: str
    candidates: tuple[Candidate, ...]
    is_complete: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "fingerprint": b64encode(self.fingerprint),
            "ufrag": self.ufrag,
            "pwd": self.pwd,
            "setup": self.setup,
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "complete": self.is_complete,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Description:
        """RemoteProtocolError for whatever is not exactly a description."""
        read = take(fields, _FIELDS)
        return cls(is_complete=read.pop("complete"), **read)


def is_mdns(host: str) -> bool:
    return _MDNS.fullmatch(host) is not None


def _choice(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise RemoteProtocolError(f"one of {', '.join(allowed)} expected")
        return value

    return read


def _ice_chars(least: int, most: int) -> Callable[[Any], str]:
    """RFC 8839 §5.1, §5.4: letters, digits, + and /."""
    form = re.compile(rf"[A-Za-z0-9+/]{{{least},{most}}}")

    def read(value: Any) -> str:
        if not isinstance(value, str) or not form.fullmatch(value):
            raise RemoteProtocolError(f"{least} to {most} ice-chars expected")
        return value

    return read


def _host(value: Any) -> str:
    """An address in its shortest spelling, or a `.local` name."""
    if not isinstance(value, str) or len(value) > HOST_MAX:
        raise RemoteProtocolError("an address expected")
    if is_mdns(value):
        return value
    # A scope (fe80::1%…) may hold any character, and means nothing elsewhere.
    if "%" in value:
        raise RemoteProtocolError("an address without a scope expected")
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as exc:
        raise RemoteProtocolError("an address expected") from exc


def _target(value: Any) -> str:
    """A host that packets may be sent to: one machine, not many, not none."""
    host = _host(value)
    if not is_mdns(host):
        address = ipaddress.ip_address(host)
        if (
            address.is_multicast
            or address.is_unspecified
            or getattr(address, "ipv4_mapped", None) is not None
            or host == "255.255.255.255"
        ):
            raise RemoteProtocolError("an address of one machine expected")
    return host


_CANDIDATE_FIELDS = {
    "foundation": _ice_chars(1, 32),
    "transport": _choice("udp", "tcp"),
    "priority": integer(1, 2**31 - 1),  # RFC 8445 §5.1.2
    "host": _target,
    "port": integer(1, 65_535),
    "kind": _choice("host", "srflx", "prflx", "relay"),
    "related_host": nullable(_host),
    "related_port": nullable(integer(0, 65_535)),
}
candidates = listed(nested(Candidate.from_json), CANDIDATES_MAX)
_FIELDS = {
    "fingerprint": b64(32),
    "ufrag": _ice_chars(4, 256),
    "pwd": _ice_chars(22, 256),
    "setup": _choice("actpass", "active", "passive"),
    "candidates": candidates,
    "complete": boolean,
}


def to_sdp(description: Description, *, kind: Literal["offer", "answer"]) -> str:
    """The SDP text for another WebRTC stack: one data channel section.

    TCP candidates are left out: they need a tcptype, and no peer of ours dials them.
    ProtocolError when a field does not hold what `from_json` demands.
    """
    Description.from_json(description.to_json())
    if (description.setup == "actpass") != (kind == "offer"):
        raise LocalProtocolError(f"an {kind} with setup {description.setup}")
    pairs = ":".join(f"{byte:02X}" for byte in description.fingerprint)
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        f"a=sctp-port:{SCTP_PORT}",
        f"a=max-message-size:{MESSAGE_MAX}",
        f"a=ice-ufrag:{description.ufrag}",
        f"a=ice-pwd:{description.pwd}",
        f"a=fingerprint:sha-256 {pairs}",
        f"a=setup:{description.setup}",
        *(_candidate_line(c) for c in description.candidates if c.transport == "udp"),
    ]
    if description.is_complete:
        lines.append("a=end-of-candidates")
    return "\r\n".join(lines) + "\r\n"


def _candidate_line(candidate: Candidate) -> str:
    line = (
        f"a=candidate:{candidate.foundation} 1 {candidate.transport} "
        f"{candidate.priority} {candidate.host} {candidate.port} typ {candidate.kind}"
    )
    if candidate.related_host is not None:
        line += f" raddr {candidate.related_host}"
    if candidate.related_port is not None:
        line += f" rport {candidate.related_port}"
    return line


def from_sdp(sdp: str) -> Description:
    """What another WebRTC stack's SDP says about its data channel.

    Attributes may stand before or in the only media section. RemoteProtocolError when
    one is missing, stands twice, or does not hold what `from_json` demands. TCP
    candidates, other fingerprints than sha-256, and all else are left out.
    """
    if len(sdp) > SDP_MAX:
        raise RemoteProtocolError(f"SDP of {len(sdp)} characters")
    lines = sdp.replace("\r\n", "\n").split("\n")
    media = [line for line in lines if line.startswith("m=")]
    if len(media) != 1 or not media[0].startswith("m=application "):
        raise RemoteProtocolError("SDP that is not of one data channel")
    fingerprint = _one(lines, "a=fingerprint:sha-256 ", ignore_case=True)
    try:
        digest = bytes.fromhex(fingerprint.replace(":", ""))
    except ValueError as exc:
        raise RemoteProtocolError("SDP with a malformed fingerprint") from exc
    found = [_read_line(line) for line in lines if line.startswith("a=candidate:")]
    said = Description(
        fingerprint=digest,
        ufrag=_one(lines, "a=ice-ufrag:"),
        pwd=_one(lines, "a=ice-pwd:"),
        setup=_one(lines, "a=setup:"),
        candidates=tuple(c for c in found if c is not None),
        is_complete="a=end-of-candidates" in lines,
    )
    return Description.from_json(said.to_json())


def _one(lines: list[str], start: str, *, ignore_case: bool = False) -> str:
    def has(line: str) -> bool:
        head = line[: len(start)]
        return (head.lower() if ignore_case else head) == start

    values = [line[len(start) :] for line in lines if has(line)]
    if len(values) != 1:
        raise RemoteProtocolError(f"SDP with {len(values)} lines {start.strip()!r}")
    return values[0]


def _read_line(line: str) -> Candidate | None:
    """None for a TCP candidate, and for another component than the first."""
    parts = line.split(" ")
    if len(parts) > 2 and (parts[1] != "1" or parts[2].lower() != "udp"):
        return None
    match = _CANDIDATE.fullmatch(line)
    if match is None:
        raise RemoteProtocolError("SDP with a malformed candidate")
    foundation, transport, priority, host, port, kind, related, related_port = (
        match.groups()
    )
    return Candidate(
        foundation=foundation,
        transport=transport.lower(),
        priority=int(priority),
        host=host,
        port=int(port),
        kind=kind,
        related_host=related,
        related_port=None if related_port is None else int(related_port),
    )
