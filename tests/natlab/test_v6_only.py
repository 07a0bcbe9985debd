"""An asker that has IPv6 and nothing else; the servers' names have both addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.commands import commands
from tests.natlab import net
from tests.natlab.nat import Kind
from tests.natlab.pair import at, pair
from tests.natlab.sites import VPS, Site, internet
from tests.natlab.vps import HUB_NAME, NAMES, RELAY_NAME, TURN_URLS, coturn

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

RELAY_URLS = [url.replace(url.split(":")[1], RELAY_NAME) for url in TURN_URLS]


# The relay is asked over IPv6, and relays from an IPv4 address.
@pytest.mark.parametrize(
    ("provider", "is_direct"), [(Kind.V6_SYMMETRIC, True), (Kind.FULL_CONE, False)]
)
async def test_ipv6_alone_is_enough(
    tmp_path: Path, provider: Kind, is_direct: bool
) -> None:
    here, there = Site(Kind.V6_SYMMETRIC, 1), Site(provider, 2)
    with internet([here, there]):
        net.ip(here.host(), "addr flush dev eth0 scope global to 10.0.0.0/8")
        async with commands(tmp_path) as meshllm:
            meshllm.env["MESHLLM_LOOPBACK"] = ""
            folder = meshllm.home("vps")
            folder.mkdir()
            names = folder / "hosts"
            names.write_text(NAMES)
            async with coturn(folder):
                meshllm.env["SSL_CERT_FILE"] = str(folder / "ca.pem")
                hub = await meshllm.start(
                    *("hub", "signal", "--host", HUB_NAME, "--port", "443"),
                    *("--public-url", f"https://{HUB_NAME}"),
                    *("--tls-cert", f"{folder}/server.pem"),
                    *("--tls-key", f"{folder}/server.key"),
                    *("--turn-secret-file", f"{folder}/secret"),
                    *("--stun", f"stun:{RELAY_NAME}:3478"),
                    *(word for url in RELAY_URLS for word in ("--turn", url)),
                    at=at(VPS, names),
                )
                async with pair(
                    *(meshllm, hub.said["link"]),
                    asker=here.host(),
                    provider=there.host(),
                    hub=VPS,
                    names=names,
                ) as made:
                    answer = await made.ask("hello")
    assert answer.text == "Hello wörld"
    assert ("relay" not in answer.candidates) == is_direct
