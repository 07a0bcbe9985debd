"""The files of deploy/ fit each other, and the commands that they run.

What they start is tried in tests/natlab/test_one_address.py, but for the containers: of
those it is what Docker would be told.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from meshllm.cli.root import root
from meshllm.cli.signal import signal
from tests.fakes.certificates import Authority

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# Of the Compose specification, as far as we need it.
KEYS = {
    *("image", "build", "network_mode", "read_only", "cap_drop", "cap_add", "volumes"),
    *("security_opt", "entrypoint", "command", "environment", "restart", "user"),
    *("depends_on", "ulimits"),
}
NAMES = {"HUB_NAME": "hub.test", "TURN_NAME": "turn.test", "EXTERNAL_IP": "192.0.2.7"}
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])[^}]*)?\}")
KNOWN = {str(option.envvar) for option in signal.own_options.values()}


def filled(text: str) -> str:
    """As Compose fills variables in."""
    return VARIABLE.sub(lambda match: NAMES[match[1]], text)


def environment(name: str) -> dict[str, str]:
    """Of a service; the commands see no other settings."""
    given = SERVICES[name]["environment"]
    clean = {key: "" for key in os.environ if key.startswith("MESHLLM_")}
    return clean | {key: filled(value) for key, value in given.items()}


def file_environment(name: str) -> dict[str, str]:
    """A file of KEY=VALUE lines, as systemd reads it."""
    lines = (DEPLOY / name).read_text().splitlines()
    wanted = (line for line in lines if line and not line.startswith("#"))
    return {key: value for key, _, value in (line.partition("=") for line in wanted)}


def configured(home: Path, env: dict[str, str], *words: str) -> dict[str, str]:
    """What coturn is told; of several values the last."""
    command = ["--home", str(home), "signal", "--print-coturn-config", *words]
    done = CliRunner().invoke(root, command, env=env)
    assert done.exit_code == 0, done.stderr
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines())


# Compose


def test_the_compose_file_says_only_what_compose_knows() -> None:
    assert set(COMPOSE) == {"name", "x-hub", "services", "volumes"}
    assert set(SERVICES) == {"settings", "signal", "coturn", "haproxy"}
    for name, service in SERVICES.items():
        assert set(service) <= KEYS, name
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        tag = service["image"].partition(":")[2]
        assert tag not in ("", "latest") or "build" in service
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_what_is_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for mount in service["volumes"]:
            source, target = mount.split(":")[:2]
            assert target.startswith("/"), name
            if not source.startswith("."):
                assert source in COMPOSE["volumes"], name
            elif source != "./certificate":  # the operator's
                assert (DEPLOY / source).is_file(), name
    build = SERVICES["signal"]["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert (context / build["dockerfile"]).is_file()
    assert (context / "pyproject.toml").is_file()


def test_only_coturn_shares_its_folder_and_not_the_keys() -> None:
    assert SERVICES["coturn"]["volumes"] == ["relay:/state/coturn"]
    path = "/state/coturn/turnserver.conf"
    assert SERVICES["coturn"]["command"] == ["-c", path]
    assert path in SERVICES["settings"]["command"][0]


@pytest.mark.parametrize("name", ["settings", "signal"])
def test_every_setting_is_an_option(name: str) -> None:
    assert set(SERVICES[name]["environment"]) <= KNOWN


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    used = {
        match[1] for match in VARIABLE.finditer((DEPLOY / "compose.yaml").read_text())
    }
    assert used == set(file_environment("example.env")) == set(NAMES)


def test_coturn_and_signaling_server_of_compose_agree(tmp_path: Path) -> None:
    own = ("--turn-ip", "10.0.0.5")
    found = configured(tmp_path, environment("settings"), *own)
    assert found["external-ip"] == "192.0.2.7/10.0.0.5"
    assert found["tcp-proxy-port"] == "3480"
    env = environment("signal")
    assert env["MESHLLM_SIGNAL_STUN"] == f"stun:turn.test:{found['listening-port']}"
    assert env["MESHLLM_SIGNAL_TURN"].split() == [
        f"turn:turn.test:{found['listening-port']}?transport=udp",
        f"turn:turn.test:{found['listening-port']}?transport=tcp",
        "turns:turn.test:443?transport=tcp",
    ]
    home = env["MESHLLM_SIGNAL_TURN_SECRET_FILE"].removesuffix("/turn.secret")
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert f"MESHLLM_HOME={home}" in dockerfile
    # Its own options are read as they stand there, up to the port that is refused.
    env["MESHLLM_SIGNAL_TURN_SECRET_FILE"] = str(tmp_path / "turn.secret")
    env["MESHLLM_SIGNAL_HOST"] = "192.0.2.1"
    done = CliRunner().invoke(root, ["--home", str(tmp_path), "signal"], env=env)
    assert done.stderr.startswith("Cannot listen on 192.0.2.1")


def test_without_an_external_address_the_empty_setting_is_none(tmp_path: Path) -> None:
    env = environment("settings") | {"MESHLLM_SIGNAL_EXTERNAL_IP": ""}
    assert "external-ip" not in configured(tmp_path, env, "--turn-ip", "192.0.2.7")


# systemd


def test_the_service_runs_a_command_of_ours_with_settings_it_knows(
    tmp_path: Path,
) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "meshllm-signal.service")
    service = unit["Service"]
    assert service["ExecStart"].split()[1:] == ["signal"]
    settings = file_environment("signal.env")
    assert set(settings) <= KNOWN
    found = configured(tmp_path, settings, "--turn-ip", "192.0.2.7")
    assert found["tcp-proxy-port"] == settings["MESHLLM_SIGNAL_TURN_PROXY_PORT"]


def test_systemd_takes_the_unit() -> None:
    if (command := shutil.which("systemd-analyze")) is None:
        pytest.skip("needs systemd")
    unit = str(DEPLOY / "meshllm-signal.service")
    done = subprocess.run([command, "verify", unit], capture_output=True, text=True)
    said = [
        line
        for line in done.stderr.splitlines()
        if "meshllm-signal.service" in line and "is not executable" not in line
    ]
    assert said == []


# haproxy


def test_haproxy_takes_its_configuration(tmp_path: Path) -> None:
    if (command := shutil.which("haproxy")) is None:
        pytest.skip("needs haproxy")
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    Authority().issue(cert, key, "hub.test", "turn.test")
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    env = file_environment("haproxy.env") | {"CERTIFICATE": str(both)}
    done = subprocess.run(
        [command, "-c", "-f", str(DEPLOY / "haproxy.cfg")],
        env=env,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr


def test_haproxy_finds_both_servers_where_they_are() -> None:
    text = (DEPLOY / "haproxy.cfg").read_text()
    port = file_environment("signal.env")["MESHLLM_SIGNAL_TURN_PROXY_PORT"]
    assert f"127.0.0.1:{port} send-proxy-v2" in text
    assert f"127.0.0.1:{signal.own_options['port'].default}" in text
    names = set(SERVICES["haproxy"]["environment"])
    assert names == set(file_environment("haproxy.env"))


def test_the_hook_puts_chain_and_key_into_one_file(tmp_path: Path) -> None:
    (tmp_path / "fullchain.pem").write_text("chain\n")
    (tmp_path / "privkey.pem").write_text("key\n")
    made, told = tmp_path / "both.pem", tmp_path / "told"
    subprocess.run(
        [DEPLOY / "certificate-hook"],
        env={
            **os.environ,
            "RENEWED_LINEAGE": str(tmp_path),
            "PEM": str(made),
            "RELOAD": f"touch {told}",
        },
        check=True,
    )
    assert made.read_text() == "chain\nkey\n"
    assert made.stat().st_mode & 0o777 == 0o600
    assert told.exists()


# The README


def test_the_readme_names_files_that_are_there() -> None:
    text = (DEPLOY / "README.md").read_text()
    for name in ("haproxy.env", "signal.env", "example.env", "certificate-hook"):
        assert name in text
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (DEPLOY / link).exists(), link
