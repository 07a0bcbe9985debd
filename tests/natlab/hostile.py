"""`python -m tests.natlab.hostile ADDRESS`: a guest of the LAN who means no good.

Takes one JSON object a line on stdin, does what its `do` says, and prints one. Its own
endpoint answers nobody and notes who came: what is dialled here is dialled by whoever
believed it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
import sys
import time
from typing import Any

import aiohttp
import nacl.utils
from nacl.public import PrivateKey
from nacl.signing import SigningKey

from meshllm.protocol.description import Candidate, Description
from meshllm.protocol.envelope import Offer, seal
from meshllm.protocol.visit import Contact
from meshllm.trust.grants import Owner, Statement
from meshllm.trust.keys import PeerId, peer_id

MDNS = ("224.0.0.251", 5353)
SERVICE = "_meshllm._tcp.local"
A, PTR, TXT, SRV, IN, FLUSH = 1, 12, 16, 33, 1, 0x8001
TTL = 120


def announcement(
    name: str, id: str, host: str, port: int, *, padding: int = 0
) -> bytes:
    """A response as `share` sends it, with so many bytes more in its TXT record."""
    instance, machine = f"{name}.{SERVICE}", f"{name}.local"
    words = ["v=1", f"id={id}", f"port={port}", f"r={secrets.token_hex(4)}"]
    words += ["x" * min(255, padding - at) for at in range(0, padding, 255)]
    text = b"".join(bytes([len(word)]) + word.encode() for word in words)
    records = [
        _record(SERVICE, PTR, IN, _name(instance)),
        _record(instance, SRV, FLUSH, struct.pack("!HHH", 0, 0, port) + _name(machine)),
        _record(instance, TXT, FLUSH, text),
        _record(machine, A, FLUSH, socket.inet_aton(host)),
    ]
    return struct.pack("!6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def _record(name: str, kind: int, of: int, data: bytes) -> bytes:
    return _name(name) + struct.pack("!HHIH", kind, of, TTL, len(data)) + data


def _name(name: str) -> bytes:
    labels = name.split(".")
    return b"".join(bytes([len(one)]) + one.encode() for one in labels) + b"\0"


class Guest:
    """Everything it sends comes from its own address."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._port = 0
        self._came: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own = socket.inet_aton(host)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        self._socket.bind((host, MDNS[1]))

    async def run(self) -> None:
        server = await asyncio.start_server(self._on_dial, self._host, 0)
        self._port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        self._say({"port": self._port})
        while line := await reader.readline():
            order: dict[str, Any] = json.loads(line)
            self._say(await getattr(self, order.pop("do"))(**order))

    async def claim(self, id: str, name: str, padding: int = 0) -> dict[str, Any]:
        """To be this node."""
        packet = announcement(name, id, self._host, self._port, padding=padding)
        self._socket.sendto(packet, MDNS)
        return {"bytes": len(packet)}

    async def crowd(self, count: int) -> dict[str, Any]:
        """So many nodes that nobody ever heard of."""
        for number in range(count):
            id = peer_id(secrets.token_bytes(32))
            packet = announcement(f"crowd-{number}", id, self._host, self._port)
            self._socket.sendto(packet, MDNS)
            if number % 20 == 0:
                await asyncio.sleep(0)
        return {"sent": count}

    async def offers(self, place: str, count: int) -> dict[str, Any]:
        """To a provider's endpoint: rubbish, and well-formed ones of a stranger."""
        statuses: dict[str, int] = {}
        async with aiohttp.ClientSession(headers={"Host": "meshllm"}) as session:
            async with session.get(f"http://{place}/v1/card") as response:
                contact = Contact.read(await response.text())
            for number in range(count):
                data = _offer(contact) if number % 2 else nacl.utils.random(4_096)
                try:
                    async with session.post(
                        f"http://{place}/v1/signal", data=data
                    ) as response:
                        await response.read()
                        status = str(response.status)
                except aiohttp.ClientError:
                    status = "cut"
                statuses[status] = statuses.get(status, 0) + 1
        return statuses

    async def came(self) -> dict[str, Any]:
        return {"came": self._came}

    async def _on_dial(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        line = await reader.readline()
        self._came.append((time.monotonic(), line.decode().strip()))
        writer.close()

    @staticmethod
    def _say(what: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def _offer(contact: Contact) -> bytes:
    key, root, now = SigningKey.generate(), SigningKey.generate(), int(time.time())
    me, mesh = (peer_id(one.verify_key.encode()) for one in (key, root))
    statement = Statement(mesh, 1, (Owner(me, "mallory"),), now).sign(root)
    here = Candidate("1", "udp", 2_130_706_431, "10.77.0.3", 9, "host")
    offer = Offer(
        path=nacl.utils.random(16),
        sender=me,
        to=PeerId(contact.id),
        ts=now,
        conn=nacl.utils.random(16),
        box=PrivateKey.generate().public_key.encode(),
        commit=nacl.utils.random(32),
        versions=(1, 1),
        description=Description(b"f" * 32, "user", "p" * 22, "actpass", (here,)),
        chain=(statement,),
    )
    ephemeral, nonce = PrivateKey.generate(), nacl.utils.random(24)
    return seal(offer, key, contact.box, ephemeral, nonce)[0]


if __name__ == "__main__":
    asyncio.run(Guest(sys.argv[1]).run())
