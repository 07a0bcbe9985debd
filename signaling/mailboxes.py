"""Pure: where two machines that pair meet (docs/protocol.md §3.2, mailboxes).

Nothing of it is stored, and nothing is left of a mailbox once it is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from meshllm.errors import Code, NotAllowed
from meshllm.protocol import signals
from meshllm.protocol.pairing_messages import MAILBOX_MAX, MAILBOX_MIN
from meshllm.trust.grants import Role
from meshllm.trust.keys import PeerId
from signaling.effects import Effect, Send
from signaling.limits import Buckets, Limits
from signaling.meshes import Seat

NUMBERS: Final = MAILBOX_MAX - MAILBOX_MIN + 1
ForPairing: TypeAlias = signals.JoinMailbox | signals.Post


@dataclass(slots=True, eq=False)
class _Mailbox:
    """`parties`: the sockets' numbers, the owner's first, each with the letters that it
    may still post."""

    number: int
    owner: PeerId
    until: float
    parties: dict[int, int]

    def tell_others(self, link: int, message: signals.HubMessage) -> list[Effect]:
        return [Send(other, message) for other in self.parties if other != link]


class Mailboxes:
    """Methods raise NotAllowed before they change anything."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_number: dict[int, _Mailbox] = {}
        self._by_link: dict[int, _Mailbox] = {}
        self._keys = Buckets[PeerId](limits.pairings)
        self._addresses = Buckets[str](limits.pairings)

    def __len__(self) -> int:
        return len(self._by_number)

    def has(self, link: int) -> bool:
        """A stranger in here may stay longer than others."""
        return link in self._by_link

    def open(self, seat: Seat, re: int, chance: bytes, now: float) -> list[Effect]:
        """A number that nobody can foresee: else somebody would wait there."""
        if seat.admission.role is not Role.OWNER:
            raise NotAllowed("Only an owner of the mesh may do that.")
        owners = {box.owner for box in self._by_number.values()}
        if seat.id in owners or self.has(seat.link):
            raise NotAllowed(
                "This node pairs already, from another process. End that one first.",
                Code.BUSY,
            )
        if len(self) >= self._limits.mailboxes:
            raise NotAllowed("All mailboxes are in use; try again later.", Code.BUSY)
        if not self._keys.take(seat.id, now):
            raise NotAllowed("Too many pairings; wait a minute.", Code.QUOTA)
        number = self._free(int.from_bytes(chance))
        until = now + self._limits.mailbox_s
        box = _Mailbox(number, seat.id, until, {seat.link: self._limits.letters})
        self._by_number[number] = self._by_link[seat.link] = box
        return [Send(seat.link, signals.Mailbox(re, number))]

    def ask(
        self, link: int, id: PeerId, address: str, message: ForPairing, now: float
    ) -> list[Effect]:
        """What needs no chain."""
        match message:
            case signals.JoinMailbox(re, number):
                self._join(link, id, address, number, now)
                return [Send(link, signals.Done(re))]
            case _:
                effects = self._post(link, message.letter)
                return [Send(link, signals.Done(message.re)), *effects]

    def leave(self, link: int) -> list[Effect]:
        """A mailbox is closed for good when one of its two is gone."""
        box = self._by_link.get(link)
        return [] if box is None else self._close(box, link, Code.GONE)

    def tick(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for box in list(self._by_number.values()):
            if now >= box.until:
                effects += self._close(box, None, Code.TIMEOUT)
        return effects

    def sweep(self, now: float) -> None:
        self._keys.forget_full(now)
        self._addresses.forget_full(now)

    def _join(
        self, link: int, id: PeerId, address: str, number: int, now: float
    ) -> None:
        """A try costs, also a wrong one: else all numbers could be tried."""
        allowed = self._addresses.take(address, now), self._keys.take(id, now)
        if not all(allowed) or self.has(link):
            raise NotAllowed("Too many pairings; wait a minute.", Code.QUOTA)
        box = self._by_number.get(number)
        if box is None:
            raise NotAllowed(
                f"There is no mailbox {number} now: it was closed, or is mistyped. Type"
                " the number that `meshllm pair` shows on the owner's machine.",
                Code.GONE,
            )
        if len(box.parties) > 1:
            raise NotAllowed(
                f"In mailbox {number} another machine pairs already. If it is not"
                " yours, start again with `meshllm pair` on the owner's.",
                Code.BUSY,
            )
        box.parties[link] = self._limits.letters
        self._by_link[link] = box

    def _post(self, link: int, letter: str) -> list[Effect]:
        box = self._by_link.get(link)
        if box is None or len(box.parties) < 2:
            raise NotAllowed("Nobody else is in that mailbox.", Code.GONE)
        if not box.parties[link]:
            raise NotAllowed("Too many letters for one pairing.", Code.QUOTA)
        box.parties[link] -= 1
        return box.tell_others(link, signals.Letter(letter))

    def _free(self, start: int) -> int:
        """The first number that is, from somewhere on."""
        at = start % NUMBERS
        while MAILBOX_MIN + at in self._by_number:
            at = (at + 1) % NUMBERS
        return MAILBOX_MIN + at

    def _close(self, box: _Mailbox, leaver: int | None, code: Code) -> list[Effect]:
        del self._by_number[box.number]
        for link in box.parties:
            del self._by_link[link]
        told = [link for link in box.parties if link != leaver]
        return [Send(link, signals.MailboxClosed(code)) for link in told]
