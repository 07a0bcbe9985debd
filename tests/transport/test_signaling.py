"""The signaling client against the real server, over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from meshllm.errors import (
    Code,
    MeshError,
    NotAllowed,
    PeerUnreachable,
    RemoteProtocolError,
    TrustError,
)
from meshllm.protocol import signals
from meshllm.protocol.signal_codec import encode
from meshllm.transport import signaling
from meshllm.transport.signaling import SignalingClient, retry_delay_s
from meshllm.trust.grants import Role
from meshllm.trust.keys import b64decode
from signaling.limits import DEFAULT_LIMITS, Rate
from signaling.server import SignalingServer
from tests.fakes.hubs import Mesh, conn_of, envelope, id_of
from tests.fakes.signaling import WAIT_S, Heard, identity, register, serve
from tests.fakes.wall import wall

MESH = Mesh()
SEALED = b64decode(envelope())


@contextlib.asynccontextmanager
async def running(client: SignalingClient) -> AsyncIterator[SignalingClient]:
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def client_of(
    server: SignalingServer,
    name: str,
    heard: Heard | None = None,
    *,
    chain: Callable[[], Sequence[str]] | None = None,
    url: str | None = None,
) -> SignalingClient:
    return SignalingClient(
        url or server.url,
        server.id,
        identity(name),
        conn_of(name),
        chain or (lambda: MESH.chain(name)),
        handlers=(heard or Heard()).handlers,
    )


@contextlib.asynccontextmanager
async def mesh_hub(home: Path, **options: Any) -> AsyncIterator[SignalingServer]:
    async with serve(home, **options) as server:
        await register(server, MESH)
        yield server


# The ordinary way


async def test_an_announcement_and_an_envelope_reach_the_other(tmp_path: Path) -> None:
    gateway_heard, provider_heard = Heard(), Heard()
    async with (
        mesh_hub(tmp_path) as server,
        running(client_of(server, "bob", gateway_heard)) as gateway,
        running(client_of(server, "ann", provider_heard)) as provider,
    ):
        welcome = await gateway.wait_connected(WAIT_S)
        await provider.wait_connected(WAIT_S)
        card = MESH.announcement("ann")

        await provider.announce(card)
        await gateway.send(id_of("ann"), None, SEALED)
        await provider.send(id_of("bob"), conn_of("bob"), SEALED)
        await provider.announce(None)

        assert welcome.statement == MESH.statement
        assert await gateway_heard.next("roster") == ((card,), ())
        offer = await provider_heard.next("signal")
        assert offer == (id_of("bob"), conn_of("bob"), SEALED)
        answer = await gateway_heard.next("signal")
        assert answer == (id_of("ann"), conn_of("ann"), SEALED)
        assert await gateway_heard.next("roster") == ((), (id_of("ann"),))


async def test_an_invite_is_used_while_its_issuer_is_away(tmp_path: Path) -> None:
    """The whole way of docs/protocol.md §3.2: ticket, card, grant, membership."""
    until = 2_000_000_000
    provisional = MESH.provisional("ticket", "bob", until=until)
    async with mesh_hub(tmp_path) as server:
        url, key = server.url, server.id
        owner, chain = identity("owner"), MESH.chain("owner")
        async with SignalingClient.once(url, key, owner, chain=chain) as hub:
            await hub.put_ticket(b"8 bytes!", b"sealed ticket", until)
        async with SignalingClient.once(url, None, identity("bob")) as hub:
            assert await hub.get_ticket(b"8 bytes!") == b"sealed ticket"
            assert hub.server == key
            await hub.leave_card(provisional)

        heard = Heard()
        bob = client_of(server, "bob", heard, chain=lambda: provisional)
        owner_heard = Heard()
        async with (
            running(bob),
            SignalingClient.once(
                url, key, owner, chain=chain, handlers=owner_heard.handlers
            ) as hub,
        ):
            await bob.wait_connected(WAIT_S)
            assert await owner_heard.next("card") == (provisional, False)
            membership = MESH.membership("bob", ticket=conn_of("ticket"))
            await hub.grant(membership)
            granted = await heard.next("membership")
            assert granted == (membership, MESH.statement)


async def test_news_of_the_mesh_is_told(tmp_path: Path) -> None:
    heard = Heard()
    async with (
        mesh_hub(tmp_path) as server,
        running(client_of(server, "ann", heard)) as ann,
        SignalingClient.once(
            server.url, server.id, identity("owner"), chain=MESH.chain("owner")
        ) as owner,
    ):
        await ann.wait_connected(WAIT_S)
        revocations = MESH.revocations("mallory")
        newer = replace(MESH, owners=("owner", "second"), version=2).statement

        await owner.revoke(revocations)
        await owner.register(None, newer)

        assert await heard.next("revocations") == revocations
        assert await heard.next("statement") == newer


# Refusals


async def test_the_hubs_reason_is_the_error(tmp_path: Path) -> None:
    async with (
        mesh_hub(tmp_path) as server,
        SignalingClient.once(
            server.url,
            server.id,
            identity("eve"),
            chain=MESH.chain("eve", Role.GUEST),
        ) as guest,
    ):
        with pytest.raises(NotAllowed, match="Only an owner") as refusal:
            await guest.grant(MESH.membership("friend"))
        assert refusal.value.code is Code.FORBIDDEN
        with pytest.raises(PeerUnreachable, match="is not connected"):
            await guest.send(id_of("ann"), None, SEALED)
        with pytest.raises(PeerUnreachable, match="has ended, or never was"):
            await guest.get_ticket(bytes(8))


async def test_another_hubs_key_is_a_hard_stop(tmp_path: Path) -> None:
    heard = Heard()
    async with mesh_hub(tmp_path / "one") as server, serve(tmp_path / "two") as other:
        client = client_of(server, "ann", heard, url=other.url)
        async with running(client):
            with pytest.raises(TrustError, match="not the one that this mesh"):
                await client.wait_connected(WAIT_S)
            connected, reason = await heard.next("state")
            assert not connected
            assert server.id[:8] in reason
        with pytest.raises(TrustError):
            async with SignalingClient.once(other.url, server.id, identity("ann")):
                pass


async def test_a_refused_login_says_why(tmp_path: Path) -> None:
    heard = Heard()
    async with mesh_hub(tmp_path) as server:
        mallory = client_of(server, "mallory", heard, chain=lambda: MESH.chain("ann"))
        async with running(mallory):
            with pytest.raises(NotAllowed) as refusal:
                await mallory.wait_connected(WAIT_S)
            assert refusal.value.code is Code.AUTH
            assert await heard.next("state") == (False, str(refusal.value))


async def test_who_is_revoked_is_told_so(tmp_path: Path) -> None:
    heard = Heard()
    async with (
        mesh_hub(tmp_path) as server,
        running(client_of(server, "ann", heard)) as ann,
        SignalingClient.once(
            server.url, server.id, identity("owner"), chain=MESH.chain("owner")
        ) as owner,
    ):
        await ann.wait_connected(WAIT_S)
        assert await heard.next("state") == (True, None)

        await owner.revoke(MESH.revocations("ann"))

        connected, reason = await heard.next("state")
        assert not connected
        assert "revoked" in reason


async def test_no_server_is_said_with_its_address() -> None:
    url = "http://127.0.0.1:1"
    with pytest.raises(PeerUnreachable, match="cannot be reached") as error:
        async with SignalingClient.once(url, None, identity("ann")):
            pass
    assert url in str(error.value)


async def test_an_ordinary_web_server_is_no_hub(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        with pytest.raises(PeerUnreachable, match=r"no signaling server.*404"):
            url = server.url + "/elsewhere"
            async with SignalingClient.once(url, None, identity("ann")):
                pass


async def test_waiting_for_a_hub_that_is_away_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = SignalingClient(
        "http://127.0.0.1:1", None, identity("ann"), conn_of("ann"), lambda: ()
    )
    with pytest.raises(PeerUnreachable, match="does not answer"):
        await client.wait_connected(0)
    with pytest.raises(PeerUnreachable, match="Not connected"):
        await client.get_ticket(bytes(8))
    monkeypatch.setattr(signaling, "AGAIN_S", 0)
    with pytest.raises(PeerUnreachable, match="does not answer"):
        await client.send(id_of("bob"), None, SEALED)


# Coming back


async def test_a_hub_that_restarts_finds_its_clients_again(tmp_path: Path) -> None:
    heard = Heard()
    async with contextlib.AsyncExitStack() as stack:
        first = mesh_hub(tmp_path)
        server = await first.__aenter__()
        port = int(server.url.rpartition(":")[2])
        client = await stack.enter_async_context(
            running(client_of(server, "ann", heard))
        )
        await client.wait_connected(WAIT_S)
        card = MESH.announcement("ann")
        await client.announce(card)
        assert await heard.next("state") == (True, None)
        assert await heard.next("roster") == ((card,), ())

        await first.__aexit__(None, None, None)
        assert (await heard.next("state"))[0] is False
        await stack.enter_async_context(serve(tmp_path, port=port))

        while not (await heard.next("state"))[0]:
            pass
        assert await heard.next("roster") == ((card,), ())


async def test_what_is_announced_while_away_is_announced_on_return(
    tmp_path: Path,
) -> None:
    heard = Heard()
    async with mesh_hub(tmp_path) as server:
        client = client_of(server, "ann", heard)
        card = MESH.announcement("ann")

        await client.announce(card)
        async with running(client):
            assert await heard.next("roster") == ((card,), ())


async def test_a_refused_announcement_is_not_repeated(tmp_path: Path) -> None:
    heard = Heard()
    async with (
        mesh_hub(tmp_path) as server,
        running(client_of(server, "ann", heard)) as client,
    ):
        await client.wait_connected(WAIT_S)
        good = MESH.announcement("ann")
        await client.announce(good)
        with pytest.raises(NotAllowed):
            await client.announce(MESH.announcement("ann", conn="another"))

        assert client._announcement == signals.Announce(0, good)


async def test_a_second_share_hears_why_it_is_not_announced(tmp_path: Path) -> None:
    heard = Heard()
    async with mesh_hub(tmp_path) as server, running(client_of(server, "ann")) as first:
        await first.wait_connected(WAIT_S)
        await first.announce(MESH.announcement("ann"))
        second = SignalingClient(
            server.url,
            server.id,
            identity("ann"),
            conn_of("second"),
            lambda: MESH.chain("ann"),
            handlers=heard.handlers,
        )
        await second.announce(MESH.announcement("ann", conn="second"))

        async with running(second):
            assert await heard.next("state") == (True, None)
            connected, reason = await heard.next("state")

    assert connected
    assert conn_of("ann").hex() in reason


async def test_questions_under_way_fail_with_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signaling, "PROBE_S", 0.05)
    async with (
        mesh_hub(tmp_path) as server,
        wall(server.url) as (url, block),
        running(client_of(server, "ann", url=url)) as client,
    ):
        await client.wait_connected(WAIT_S)
        block()
        asked = asyncio.create_task(client.get_ticket(bytes(8)))
        await asyncio.sleep(0)  # so that it is asked before the probe fails

        assert not await client.probe()

        with pytest.raises(PeerUnreachable, match="was lost"):
            await asked


async def test_a_half_open_connection_is_replaced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signaling, "PROBE_S", 0.05)
    heard = Heard()
    async with (
        mesh_hub(tmp_path) as server,
        wall(server.url) as (url, block),
        running(client_of(server, "ann", heard, url=url)) as client,
    ):
        await client.wait_connected(WAIT_S)
        assert await client.probe()
        await heard.next("state")
        block()

        assert not await client.probe()

        assert await heard.next("state") == (True, None)
        assert await client.probe()


async def test_a_login_that_began_before_the_network_changed_is_begun_anew() -> None:
    """Else it would wait for packets that lead nowhere: ten seconds."""
    begun: asyncio.Queue[None] = asyncio.Queue()

    async def say_nothing(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        begun.put_nowait(None)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        client = SignalingClient(
            *(f"http://127.0.0.1:{port}", id_of("hub"), identity("ann")),
            *(conn_of("ann"), tuple),
        )
        async with running(client), asyncio.timeout(WAIT_S):
            for _ in range(3):
                await begun.get()
                assert not await client.probe()
                assert not await client.probe()


async def test_envelopes_get_through_in_order_though_the_connection_is_half_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signaling, "PROBE_S", 0.05)
    heard = Heard()
    async with (
        mesh_hub(tmp_path) as server,
        wall(server.url) as (url, block),
        running(client_of(server, "ann", heard)) as ann,
        running(client_of(server, "bob", url=url)) as bob,
    ):
        await ann.wait_connected(WAIT_S)
        await ann.announce(MESH.announcement("ann"))
        await bob.wait_connected(WAIT_S)
        block()

        envelopes = [bytes([number]) * 4096 for number in range(3)]
        sending = []
        for envelope in envelopes:  # the first one's time is up first
            sending.append(asyncio.create_task(bob.send(id_of("ann"), None, envelope)))
            await asyncio.sleep(0.01)
        await asyncio.gather(*sending)

        assert [(await heard.next("signal"))[2] for _ in envelopes] == envelopes


async def test_what_is_sent_while_the_connection_is_lost_keeps_its_order(
    tmp_path: Path,
) -> None:
    heard, envelopes = Heard(), [bytes([number]) * 4096 for number in range(3)]
    async with (
        mesh_hub(tmp_path) as server,
        running(client_of(server, "ann", heard)) as ann,
        running(client_of(server, "bob")) as bob,
    ):
        await ann.wait_connected(WAIT_S)
        await ann.announce(MESH.announcement("ann"))
        await bob.wait_connected(WAIT_S)
        live = bob._live
        assert live is not None
        async with asyncio.TaskGroup() as sending:
            sending.create_task(bob.send(id_of("ann"), None, envelopes[0]))
            await asyncio.sleep(0)
            bob._live = None  # known to be lost a moment before who waits is told
            for envelope in envelopes[1:]:
                sending.create_task(bob.send(id_of("ann"), None, envelope))
            await asyncio.sleep(0)
            await live.close()

        got = [(await heard.next("signal"))[2]]
        while got[-1] != envelopes[-1]:
            got.append((await heard.next("signal"))[2])
        assert list(dict.fromkeys(got)) == envelopes  # who gets one twice drops it


async def test_a_probe_while_away_tries_again_at_once(tmp_path: Path) -> None:
    heard = Heard()
    async with mesh_hub(tmp_path) as server:
        chain: list[str] = []
        client = client_of(server, "ann", heard, chain=lambda: chain)
        chain += MESH.chain("bob")  # refused: the client waits long
        async with running(client):
            assert (await heard.next("state"))[0] is False
            chain[:] = MESH.chain("ann")

            assert not await client.probe()

            assert await heard.next("state") == (True, None)


async def test_turn_credentials_are_renewed_unnoticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, page = Heard(), Heard()
    turn = {"turn": ("turn:turn.example.org",), "turn_secret": b"secret"}
    fast = replace(DEFAULT_LIMITS, logins=Rate(1_000, 1_000))
    async with (
        mesh_hub(tmp_path, limits=fast, **turn) as server,
        running(client_of(server, "bob", page)) as gateway,
        running(client_of(server, "ann", heard)) as client,
    ):
        monkeypatch.setattr(signaling, "RENEW_S", 0.05)
        await gateway.wait_connected(WAIT_S)
        await client.wait_connected(WAIT_S)
        await client.announce(MESH.announcement("ann"))
        assert (await page.next("roster"))[0]
        while not heard.nothing("welcome"):
            assert (await heard.next("welcome")).ice[0].credential

        assert (await heard.next("welcome")).ice[0].credential
        monkeypatch.setattr(signaling, "RENEW_S", 1_000)
        await gateway.send(id_of("ann"), None, SEALED)

        assert (await heard.next("signal"))[0] == id_of("bob")
        assert page.nothing("roster")
        while not heard.nothing("state"):
            assert await heard.next("state") == (True, None)


async def test_a_renewal_that_is_refused_is_tried_again_soon(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals = asyncio.Semaphore(0)

    class Refusals(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "could not be renewed" in record.getMessage():
                monkeypatch.setattr(signaling, "RENEW_S", 1_000)
                refusals.release()

    monkeypatch.setattr(signaling, "RENEW_S", 0.02)
    monkeypatch.setattr(signaling, "RENEW_AGAIN_S", 0.02)
    caplog.set_level(logging.INFO, logger=signaling.log.name)
    monkeypatch.setattr(signaling.log, "handlers", [Refusals()])
    once = replace(DEFAULT_LIMITS, logins=Rate(0.001, 1))
    turn = {"turn": ("turn:turn.example.org",), "turn_secret": b"secret"}
    async with (
        mesh_hub(tmp_path, limits=once, **turn) as server,
        running(client_of(server, "ann", Heard())) as client,
        asyncio.timeout(WAIT_S),
    ):
        for _ in range(3):
            await refusals.acquire()
        assert await client.probe()  # the login that it has goes on


async def test_without_turn_nothing_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signaling, "RENEW_S", 0)
    heard = Heard()
    async with (
        mesh_hub(tmp_path) as server,
        running(client_of(server, "ann", heard)) as client,
    ):
        await client.wait_connected(WAIT_S)
        await heard.next("welcome")
        assert await client.probe()

        assert heard.nothing("welcome")


@pytest.mark.parametrize(
    ("failures", "jitter", "delay_s"),
    [
        (0, 0.5, 0),
        (1, 0.5, 0),
        (2, 0, 0.5),
        (2, 1, 1),
        (3, 1, 2),
        (7, 1, 30),
        (10_000, 1, 30),
        (10_000, 0, 15),
    ],
)
def test_the_first_retry_is_at_once_and_later_ones_spread(
    failures: int, jitter: float, delay_s: float
) -> None:
    assert retry_delay_s(failures, jitter) == delay_s


# Hubs and members that misbehave


async def test_a_bad_envelope_does_not_end_the_connection(tmp_path: Path) -> None:
    heard = Heard()
    async with (
        mesh_hub(tmp_path) as server,
        running(client_of(server, "ann", heard)) as client,
        SignalingClient.once(
            server.url, server.id, identity("mallory"), chain=MESH.chain("mallory")
        ) as mallory,
    ):
        await client.wait_connected(WAIT_S)
        crooked = envelope()[:-1] + "B"  # set trailing bits
        await mallory.request(signals.Send(0, id_of("ann"), conn_of("ann"), crooked))
        await mallory.send(id_of("ann"), conn_of("ann"), SEALED)

        assert await heard.next("signal") == (
            id_of("mallory"),
            mallory._who.conn,
            SEALED,
        )


@contextlib.asynccontextmanager
async def scripted(*answers: signals.HubMessage | str) -> AsyncIterator[str]:
    """A hub that says these: the first unasked, each other to a message."""

    async def serve_script(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str('{"t":"a kind of version 2"}')
        for answer in answers:
            text = answer if isinstance(answer, str) else encode(answer)
            await socket.send_str(text)
            await socket.receive()
        return socket

    app = web.Application()
    app.router.add_get("/v1/signal", serve_script)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def challenge(versions: tuple[int, int] = (1, 1)) -> signals.Challenge:
    return signals.Challenge(id_of("hub"), bytes(32), 1_800_000_000, versions)


@pytest.mark.parametrize(
    ("answers", "error", "match"),
    [
        (["{}"], RemoteProtocolError, "kind"),
        ([signals.Done(1)], RemoteProtocolError, "breaks the protocol"),
        ([challenge((2, 3))], NotAllowed, "versions 2 to 3"),
        ([challenge(), signals.Done(1)], RemoteProtocolError, "breaks the protocol"),
        (
            [challenge(), signals.Welcome(bytes(64), (), (), None, None)],
            TrustError,
            "does not hold",
        ),
        (
            [challenge(), signals.Refused(None, Code.GONE, "Not here.")],
            PeerUnreachable,
            "Not here",
        ),
        ([challenge()], PeerUnreachable, "was lost"),
    ],
)
async def test_a_hub_that_does_not_prove_itself_is_left(
    answers: list[signals.HubMessage | str], error: type[MeshError], match: str
) -> None:
    async with scripted(*answers) as url:
        with pytest.raises(error, match=match):
            async with SignalingClient.once(url, id_of("hub"), identity("ann")):
                pass
