"""Pure: why a connection did not come about, in words that a person can act on.

`explain` gives what happened and what to do, as one sentence without its full stop.
docs/errors.md has a row for each.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from meshllm.protocol.description import Candidate

if TYPE_CHECKING:
    from meshllm.transport.policy import Policy

RUN_TURN: Final = "run `meshllm signal --coturn`, or to give it `--turn turn:…`"
RUN_TURNS: Final = "run `meshllm signal --coturn`, or to give it `--turn turns:…`"
TURN: Final = f"ask its owner to {RUN_TURN}"
TURNS: Final = f"ask its owner to {RUN_TURNS}"
LOOK_HERE: Final = "`meshllm doctor` says what is wrong with each"
LOOK_THERE: Final = "run `meshllm doctor` on the peer's machine"


class Stage(Enum):
    """How far an attempt has come: what it waits for, or what went wrong."""

    ADDRESS = auto()  # of our own, to offer
    ANSWER = auto()
    PATH = auto()
    HANDSHAKE = auto()
    CERTIFICATE = auto()  # the peer showed another than it announced
    CHANNEL = auto()
    PROOF = auto()  # HELLO


@dataclass(frozen=True, slots=True)
class Asked:
    """A server that the mesh names and we may use; `over` udp, tcp or tls."""

    over: str
    is_relay: bool
    has_answered: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known when an attempt ends. `is_heard`: the peer's own checks came in."""

    stage: Stage
    policy: Policy = "all"
    asked: Sequence[Asked] = ()
    local: Sequence[Candidate] = ()
    remote: Sequence[Candidate] = ()
    is_heard: bool = False

    @property
    def is_udp_blocked(self) -> bool:
        """No server answers over UDP, though some should."""
        udp = [one.has_answered for one in self.asked if one.over == "udp"]
        return bool(udp) and not any(udp)

    @property
    def has_relay(self) -> bool:
        return "relay" in _kinds(self.local)

    @property
    def is_peer_relayed(self) -> bool:
        return "relay" in _kinds(self.remote)

    @property
    def is_peer_inside(self) -> bool:
        """It told no address that its own network does not give it."""
        return _kinds(self.remote) == {"host"}


def explain(attempt: Attempt) -> str:
    match attempt.stage:
        case Stage.ADDRESS:
            return _no_address(attempt)
        case Stage.ANSWER:
            return (
                "the peer has not answered the offer; it may be asleep, or its own"
                f" connection to the signaling server is broken: {LOOK_THERE}"
            )
        case Stage.PATH:
            return _no_path(attempt)
        case Stage.HANDSHAKE:
            return (
                "a path was found, but the DTLS handshake on it did not end: large"
                " packets may be lost on the way (a VPN or tunnel with a small MTU), or"
                " the peer was stopped; try again, without the VPN"
            )
        case Stage.CERTIFICATE:
            return (
                "the peer's certificate is not the one it announced: somebody may stand"
                " between the two; try again, and tell the mesh's owner if it stays so"
            )
        case Stage.CHANNEL:
            return (
                "a path was found, but the peer did not open its data channel: it may"
                " be overloaded or stopped; try again"
            )
        case Stage.PROOF:
            return (
                "the peer is connected, but did not prove who it is: it may be"
                " overloaded or stopped; try again"
            )


def _no_address(attempt: Attempt) -> str:
    relays = [one for one in attempt.asked if one.is_relay]
    if attempt.policy == "direct":
        return (
            "this machine has no network address to offer, and uses no relay: check"
            " its network, or start it without --direct-only"
        )
    if attempt.policy == "relay" and not relays:
        return (
            "this node goes through relays only, and the signaling server names no TURN"
            f" server: {TURN}"
        )
    if attempt.policy == "relay":
        return (
            "this node goes through relays only, and no TURN server answered:"
            f" {LOOK_HERE}"
        )
    return (
        "this machine has no network address to offer, and no relay answered: check its"
        " network, or set MESHLLM_LOOPBACK=1 to stay on this machine"
    )


def _no_path(attempt: Attempt) -> str:
    if attempt.policy == "direct":
        return _no_direct_path(attempt)
    if not attempt.remote:
        return (
            "the peer has told no address under which it could be reached:"
            f" {LOOK_THERE}"
        )
    if not _families(attempt.local) & _families(attempt.remote):
        return (
            "this machine and the peer have no kind of address in common, one offers"
            " IPv4 only and the other IPv6 only: switch on the other kind, or"
            f" use a TURN server ({TURN})"
        )
    if attempt.has_relay or attempt.is_peer_relayed:
        return _no_path_with_relay(attempt)
    if not attempt.asked:
        return (
            "the signaling server names no STUN or TURN server, so that only machines"
            " of one network find each other: ask its owner to run"
            " `meshllm signal --coturn`, or to give it `--stun stun:…` and"
            " `--turn turn:…`"
        )
    if attempt.is_udp_blocked:
        return _no_udp_here(attempt)
    return _no_path_with_udp(attempt)


def _no_direct_path(attempt: Attempt) -> str:
    if attempt.is_udp_blocked:
        why = f"{_blocked(attempt)}, so there is no direct path"
    else:
        why = "the two networks let no direct path through"
    return f"{why}, and this node uses no relay: start it without --direct-only"


def _no_path_with_relay(attempt: Attempt) -> str:
    if not attempt.has_relay and attempt.is_udp_blocked:
        return _no_udp_here(attempt)
    if attempt.has_relay and attempt.is_peer_inside:
        return (
            "the peer itself reaches no STUN or TURN server, so that not even our"
            f" relay gets through to it: {LOOK_THERE}"
        )
    return (
        "a relay is there, but nothing comes through it: the TURN server's firewall,"
        " its external address or its list of denied peers may be wrong; ask the owner"
        " of the signaling server to check it"
    )


def _no_udp_here(attempt: Attempt) -> str:
    fallbacks = [a for a in attempt.asked if a.is_relay and a.over != "udp"]
    if fallbacks and not _is_sure(attempt):
        return (
            "no STUN or TURN server answers here, neither over UDP nor over TCP or TLS;"
            f" they are down, or this network blocks them: {LOOK_HERE}"
        )
    if fallbacks:
        return (
            f"{_blocked(attempt)}, and no TURN server answered over TCP or TLS either:"
            f" {LOOK_HERE}"
        )
    return (
        f"{_blocked(attempt)} and no TURN over TLS is configured on the server: {TURNS}"
    )


def _no_path_with_udp(attempt: Attempt) -> str:
    relays = [one for one in attempt.asked if one.is_relay]
    if attempt.is_peer_inside:
        why = "the peer reaches no STUN or TURN server (UDP may be blocked there)"
        if relays:
            return f"{why}, and none gave us a relay: {LOOK_THERE}"
        return f"{why}, and no TURN over TLS is configured on the server: {TURNS}"
    if attempt.is_heard:
        why = "the peer's packets arrive here, but ours do not arrive there"
    else:
        why = "the NATs of the two networks let no direct path through"
    if relays:
        return f"{why}, and no TURN server answered: {LOOK_HERE}"
    return f"{why}, and no TURN server is configured on the server: {TURN}"


def _blocked(attempt: Attempt) -> str:
    if _is_sure(attempt):
        return "UDP is blocked here"
    return "UDP seems to be blocked here"


def _is_sure(attempt: Attempt) -> bool:
    """That the peer was answered over UDP shows that it is not the servers' fault."""
    return "srflx" in _kinds(attempt.remote) or any(
        one.has_answered for one in attempt.asked
    )


def _kinds(candidates: Iterable[Candidate]) -> set[str]:
    return {candidate.kind for candidate in candidates}


def _families(candidates: Iterable[Candidate]) -> set[int]:
    """4 and 6; a name (`.local`) may turn out to be either."""
    found: set[int] = set()
    for candidate in candidates:
        if candidate.is_named:
            found |= {4, 6}
        else:
            found.add(ipaddress.ip_address(candidate.host).version)
    return found
