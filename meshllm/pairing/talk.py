"""One pairing from the first letter to the last, with its people: either side of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from meshllm.errors import Code, ConfigError, MeshError, NotAllowed
from meshllm.protocol.pairing import NewcomerSide, OwnerSide
from meshllm.protocol.pairing_messages import (
    CODE_DIGITS,
    RECEIPT_DIGITS,
    Grant,
    read_digits,
)
from meshllm.trust.admission import Admission
from meshllm.trust.grants import Role
from meshllm.trust.keys import PeerId

T = TypeVar("T")
LAST_WORD_S: Final = 2.0  # for telling the other machine that it is over


class Screen(Protocol):
    """The person at this machine. The asking methods may be cancelled."""

    def waiting(
        self, mailbox: int | None, hub: str | None, is_on_lan: bool, until: float
    ) -> None:
        """On the owner's machine: it can be met until then (seconds since 1970), in
        that mailbox of the hub unless it is None, and on the LAN or not."""

    def looking(self, until: float) -> None:
        """On the newcomer, without a number: it looks on the LAN."""

    def note(self, text: str) -> None:
        """Something went less well than it might."""

    def arrived(self) -> None:
        """The newcomer is there, and shows its code."""

    async def ask_code(self) -> str:
        """What is typed on the owner's machine."""
        ...

    def show_receipt(self, receipt: str) -> None:
        """On the owner's machine: the code was right."""

    def show_code(self, code: str, until: float) -> None:
        """On the newcomer."""

    async def ask_receipt(self) -> str:
        """What is typed on the newcomer."""
        ...

    def mistyped(self, why: str) -> None:
        """That was no guess; it is asked again."""


class Carrier(Protocol):
    """Letters to the other machine and from it; raises MeshError once it is gone."""

    async def send(self, letter: bytes) -> None: ...
    async def receive(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """By the owner's machine. `is_sure`: the other one said that it has it."""

    mesh: PeerId
    id: PeerId
    name: str
    role: Role
    is_sure: bool


@dataclass(frozen=True, slots=True)
class Paired:
    """The newcomer's place in its mesh."""

    mesh: PeerId
    admission: Admission


async def as_owner(
    side: OwnerSide,
    offer: bytes,
    carrier: Carrier,
    screen: Screen,
    grant: Callable[[PeerId], Grant],
) -> bool:
    """Whether the newcomer said that it has what it was granted; raises when nothing
    was."""
    answer = side.receive(offer, time.time())
    assert answer is not None
    await carrier.send(answer)
    side.receive(await carrier.receive(), time.time())
    screen.arrived()
    code = await _typed(screen.ask_code, CODE_DIGITS, screen, side, carrier)
    side.type_code(code, time.time())
    screen.show_receipt(side.receipt)
    side.receive(await carrier.receive(), time.time())
    await carrier.send(side.grant(grant(side.other)))
    try:
        side.receive(await carrier.receive(), time.time())
    except MeshError:
        return False  # the last letter can be lost
    return True


async def as_newcomer(
    side: NewcomerSide, answer: bytes, carrier: Carrier, screen: Screen, until: float
) -> Grant:
    """What the owner granted; it is for `side.accept` to say that it is stored."""
    reveal = side.receive(answer, time.time())
    assert reveal is not None
    await carrier.send(reveal)
    screen.show_code(side.code, until)
    receipt = await _typed(screen.ask_receipt, RECEIPT_DIGITS, screen, side, carrier)
    await carrier.send(side.type_receipt(receipt, time.time()))
    side.receive(await carrier.receive(), time.time())
    return side.granted


@contextlib.asynccontextmanager
async def told(
    side: OwnerSide | NewcomerSide, carrier: Carrier, until: float
) -> AsyncIterator[None]:
    """However it ends early, the other machine is told, if it can be."""
    code = Code.PROTOCOL
    try:
        yield
    except asyncio.CancelledError:
        code = Code.TIMEOUT if time.time() >= until else Code.CANCELLED
        raise
    except NotAllowed as error:
        code = error.code
        raise
    finally:
        if (last := side.stop(code)) is not None:
            with contextlib.suppress(MeshError, TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await carrier.send(last)


async def _typed(
    ask: Callable[[], Awaitable[str]],
    count: int,
    screen: Screen,
    side: OwnerSide | NewcomerSide,
    carrier: Carrier,
) -> str:
    """So many digits, from the person; raises when the other machine ends it first."""
    while True:
        typed = await _unless_told(ask(), side, carrier)
        try:
            return read_digits(typed, count)
        except ConfigError as error:
            screen.mistyped(str(error))


async def _unless_told(
    asked: Awaitable[T], side: OwnerSide | NewcomerSide, carrier: Carrier
) -> T:
    """Nothing may come from the other machine while a person types, but the end."""
    typing = asyncio.ensure_future(asked)
    letter = asyncio.ensure_future(carrier.receive())
    try:
        await asyncio.wait([typing, letter], return_when=asyncio.FIRST_COMPLETED)
        if letter.done():
            side.receive(letter.result(), time.time())
            raise AssertionError("a letter while somebody types ends it")
        return typing.result()
    finally:
        for task in (typing, letter):
            task.cancel()
        await asyncio.gather(typing, letter, return_exceptions=True)
