"""A machine with `meshllm signal --coturn` on it, and nothing around it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from meshllm.trust.keys import peer_id
from signaling.turn import credentials
from tests.fakes.commands import Commands, Serving, commands
from tests.natlab import net
from tests.natlab.turn_user import TurnUser, turn_user

MACHINE = "relay"
PORT = 3478
OWN, OWN6 = "198.51.100.11", "2001:db8::11"
LAN = "10.0.0.5"
FRIEND, FRIEND6 = "203.0.113.9", "2001:db8:9::9"
ADDRESSES = (OWN, LAN, "169.254.169.254", FRIEND, OWN6, FRIEND6)
HOME = "hub"


@dataclass(frozen=True, slots=True)
class Relay:
    home: Path
    serving: Serving
    meshllm: Commands

    @property
    def secret(self) -> bytes:
        return (self.home / "turn.secret").read_bytes().strip()

    def credentials(
        self, number: int = 1, *, age_s: float = 0, secret: bytes | None = None
    ) -> tuple[str, str]:
        """Of a person, who got them so long ago."""
        person = peer_id(number.to_bytes(32))
        return credentials(secret or self.secret, person, time.time() - age_s)

    def user(
        self, given: tuple[str, str] | None = None, *, ipv6: bool = False
    ) -> AbstractAsyncContextManager[TurnUser]:
        """Who asks from elsewhere: a port of the relay's own address may be one that
        it relays from."""
        host, server = (FRIEND6, OWN6) if ipv6 else (FRIEND, OWN)
        return turn_user(MACHINE, host, (server, PORT), given or self.credentials())


@asynccontextmanager
async def relay(
    root: Path, *options: str, addresses: Sequence[str] = ADDRESSES
) -> AsyncIterator[Relay]:
    """All addresses are of one namespace, so that everything that is not refused would
    arrive."""
    with net.namespaces(MACHINE):
        net.ip(
            MACHINE,
            *(f"addr add {a}/32 dev lo" for a in addresses if ":" not in a),
            *(f"addr add {a}/128 dev lo nodad" for a in addresses if ":" in a),
            f"route add default dev lo src {OWN}",
            f"route add ::/0 dev lo src {OWN6}",
        )
        async with commands(root) as meshllm:
            serving = await meshllm.start(
                *(HOME, "signal", "--port", "0", "--coturn", *options),
                at=net.entered(MACHINE),
            )
            yield Relay(meshllm.home(HOME), serving, meshllm)
