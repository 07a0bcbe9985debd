"""Pure: which kind of NAT this is, from how servers see one socket (RFC 4787)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshllm.doctor.check import Check, error, ok, warning
from meshllm.transport.verdict import RUN_TURN, RUN_TURNS

Address = tuple[str, int]
ARE_THEY_UP: Final = (
    "ask the owner of the signaling server whether they run; if they do, this network"
    " blocks them: try another, a phone's for instance"
)


class Mapping(StrEnum):
    NONE = "none"
    INDEPENDENT = "endpoint-independent"
    DEPENDENT = "endpoint-dependent"
    UNKNOWN = "unknown"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Seen:
    """Our socket as whoever is at `at` sees it."""

    at: Address
    mapped: Address


@dataclass(frozen=True, slots=True)
class Nat:
    """`is_open`: packets from another port of a server that we have asked come in;
    None when that could not be tried."""

    mapping: Mapping
    seen: tuple[Seen, ...]
    is_open: bool | None = None

    @property
    def public(self) -> Address | None:
        return self.seen[0].mapped if self.seen else None

    @property
    def has_one_address(self) -> bool:
        """All that saw us have one IP address: of others nothing is known."""
        return len({seen.at[0] for seen in self.seen}) == 1


def classify(
    seen: Sequence[Seen], own: Collection[str], *, is_open: bool | None = None
) -> Nat:
    """`own`: the addresses of this machine."""
    return Nat(_mapping(seen, own), tuple(seen), is_open)


def _mapping(seen: Sequence[Seen], own: Collection[str]) -> Mapping:
    if not seen:
        return Mapping.BLOCKED
    if len({one.mapped for one in seen}) > 1:
        return Mapping.DEPENDENT
    if seen[0].mapped[0] in own:
        return Mapping.NONE
    if len({one.at for one in seen}) == 1:
        return Mapping.UNKNOWN
    return Mapping.INDEPENDENT


def describe(nat: Nat) -> str:
    """In words that mean something to who has to live with it."""
    match nat.mapping:
        case Mapping.BLOCKED:
            return "UDP is blocked: no server answers over it"
        case Mapping.NONE:
            return (
                "no NAT between here and the servers: direct connections work with"
                " everybody, unless a firewall drops what comes in"
            )
        case Mapping.DEPENDENT:
            return (
                "symmetric NAT: direct only with open or address-restricted peers,"
                " else through a relay (TURN)"
            )
        case Mapping.UNKNOWN:
            return (
                "a NAT; whether an easy or a symmetric one, a single STUN server on a"
                " single port cannot tell"
            )
    if nat.is_open:
        text = "easy and open NAT: direct connections work with everybody"
    else:
        text = "easy NAT: direct connections work with nearly everybody"
    if nat.has_one_address:
        text += " (as far as ports of one server can tell)"
    return text


def judge(nat: Nat, relays: Collection[str], named: Collection[str] = ()) -> Check:
    """`relays`: the transports over which one is there; `named`: or should be."""
    facts = {
        "mapping": nat.mapping.value,
        "public_address": nat.public and nat.public[0],
        "seen": [{"by": spell(one.at), "as": spell(one.mapped)} for one in nat.seen],
        "open": nat.is_open,
    }
    text = describe(nat)
    if nat.mapping is Mapping.BLOCKED and not relays:
        text = "UDP is blocked, or the servers are down: none answers"
        if set(named) <= {"udp"}:
            text += ", and there is no relay over TCP or TLS"
            do = f"ask the owner of the signaling server to {RUN_TURNS}"
        else:
            text += ", nor does a relay over TCP or TLS"
            do = ARE_THEY_UP
        return error("nat", f"{text}; nobody beyond this network is reached", do, facts)
    if nat.mapping is Mapping.BLOCKED:
        text += (
            f"; connections go through the relay over {spelled(relays)}, more slowly"
        )
        return warning(
            "nat", text, "let UDP out of this network, if it is yours", facts
        )
    if nat.public and nat.mapping is not Mapping.NONE:
        text += f"; seen from outside as {nat.public[0]}"
    if nat.mapping is Mapping.DEPENDENT and not relays:
        do = f"ask the owner of the signaling server to {RUN_TURN}"
        return warning("nat", text, do, facts)
    return ok("nat", text, facts)


def spell(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def spelled(transports: Collection[str]) -> str:
    """In the order in which they are tried."""
    *most, last = [via.upper() for via in ("udp", "tcp", "tls") if via in transports]
    return f"{', '.join(most)} and {last}" if most else last
