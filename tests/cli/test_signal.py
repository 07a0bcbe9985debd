"""`meshllm signal`: what its options become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from meshllm.cli.root import root
from meshllm.cli.signal import RELAY
from meshllm.cli.signal_options import read_options
from signaling.coturn_plan import RelayOptions
from tests.fakes.certificates import Authority


def config(home: Path, *words: str) -> dict[str, list[str]]:
    """What --print-coturn-config prints, by option."""
    done = CliRunner().invoke(
        root, ["--home", str(home), "signal", "--print-coturn-config", *words]
    )
    assert done.exit_code == 0, done.stderr
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return found


def test_the_configuration_of_coturn_can_be_had_without_running_it(
    tmp_path: Path,
) -> None:
    found = config(
        tmp_path / "home",
        *("--turn-ip", "10.0.0.5", "--external-ip", "198.51.100.11"),
        *("--turn-port", "3500", "--turn-proxy-port", "3501"),
        *("--turn-relay-ports", "50000-50100"),
    )
    assert found["listening-ip"] == ["10.0.0.5", "127.0.0.1"]
    assert found["external-ip"] == ["198.51.100.11/10.0.0.5"]
    assert found["listening-port"] == ["3500"]
    assert found["tcp-proxy-port"] == ["3501"]
    assert (found["min-port"], found["max-port"]) == (["50000"], ["50100"])
    secret = (tmp_path / "home" / "turn.secret").read_text().strip()
    assert found["static-auth-secret"] == [secret]


def test_under_json_it_is_one_document(tmp_path: Path) -> None:
    words = ("signal", "--print-coturn-config", "--turn-ip", "198.51.100.11")
    done = CliRunner().invoke(root, ["--home", str(tmp_path), "--json", *words])
    assert "use-auth-secret\n" in json.loads(done.stdout)["config"]


# TLS


def relay(tmp_path: Path, port: int, **more: Any) -> RelayOptions:
    """Of a server that has a certificate."""
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    Authority().issue(cert, key, "hub.example.org")
    options = read_options(
        tmp_path,
        coturn=True,
        relay=dict.fromkeys(RELAY) | {"turn_ip": ()} | more,
        admit="setup",
        stun=(),
        turn=(),
        turn_secret_file=None,
        trusted_proxy=(),
        host="0.0.0.0",
        port=port,
        public_url="https://hub.example.org",
        tls_cert=cert,
        tls_key=key,
    )
    assert options.relay is not None
    return options.relay


@pytest.mark.parametrize(
    ("port", "asked", "expected"),
    [(8080, None, 443), (443, None, 5349), (443, 443, 443), (8080, 9000, 9000)],
)
def test_coturn_speaks_tls_on_443_unless_the_server_does(
    tmp_path: Path, port: int, asked: int | None, expected: int
) -> None:
    tls = relay(tmp_path, port, turn_tls_port=asked).tls
    assert tls is not None
    assert (tls.port, tls.cert) == (expected, tmp_path / "c.pem")


def test_a_proxy_before_coturn_ends_tls_for_it(tmp_path: Path) -> None:
    assert relay(tmp_path, 8080, turn_proxy_port=3480).tls is None


def test_coturn_is_where_the_server_is_unless_another_name_is_given(
    tmp_path: Path,
) -> None:
    assert relay(tmp_path, 8080).host == "hub.example.org"
    named = relay(tmp_path, 8080, turn_host="turn.example.org")
    assert named.host == "turn.example.org"
