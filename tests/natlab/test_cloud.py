"""Signaling server and relay behind a 1:1 NAT, as at most cloud providers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.certificates import Authority
from tests.fakes.commands import commands
from tests.natlab import net
from tests.natlab.cloud import MACHINE, OWN, ROUTER, cloud
from tests.natlab.nat import Kind
from tests.natlab.pair import pair
from tests.natlab.relay import Relay
from tests.natlab.sites import Site, internet
from tests.natlab.turn_user import turn_user

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

FORBIDDEN = 403


@pytest.mark.parametrize("is_told", [True, False], ids=["--external-ip", "found"])
async def test_two_that_both_need_the_relay_meet_in_it(
    tmp_path: Path, is_told: bool
) -> None:
    asker, provider = Site(Kind.SYMMETRIC, 1), Site(Kind.UDP_BLOCKED, 2)
    router = Site(Kind.PUBLIC, 3)
    public = router.address
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority = Authority()
    ca.write_bytes(authority.pem)
    authority.issue(cert, key, public)
    with internet([asker, provider, router]), cloud(router):
        async with commands(tmp_path) as meshllm:
            meshllm.env |= {"MESHLLM_LOOPBACK": "", "SSL_CERT_FILE": str(ca)}
            hub = await meshllm.start(
                *("hub", "signal", "--host", "0.0.0.0", "--port", "443", "--coturn"),
                *("--public-url", f"https://{public}"),
                *("--tls-cert", str(cert), "--tls-key", str(key)),
                *(("--external-ip", public) if is_told else ()),
                at=net.entered(MACHINE),
            )
            async with pair(
                *(meshllm, hub.said["link"]),
                asker=asker.host(),
                provider=provider.host(),
                hub=asker.host(),
                options=["--relay-only"],
            ) as made:
                answer = await made.ask("hello")
                assert answer.text == "Hello wörld"
                assert (answer.path, answer.candidates) == ("relay", ("relay", "relay"))

            relay = Relay(meshllm.home("hub"), hub, meshllm)
            async with turn_user(
                asker.host(), "10.1.0.2", (public, 3478), relay.credentials()
            ) as user:
                assert await user.allocate() is None
                assert user.relayed_address is not None
                assert user.relayed_address[0] == public
                # Its neighbours in the cloud stay out of reach; its own address is
                # what the public one means, and everybody has that.
                assert await user.bind(ROUTER, 53) == FORBIDDEN
                assert await user.bind("10.99.0.6", 53) == FORBIDDEN
                assert await user.bind(public, 9) is None
                assert await user.bind(OWN, 10) is None
