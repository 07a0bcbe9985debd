from __future__ import annotations

from ipaddress import ip_network

import pytest

from meshllm.dialects import BadRequest
from meshllm.gateway import Options
from meshllm.gateway.guards import (
    check_address,
    check_host,
    check_origin,
    has_key,
    host_name,
    preflight,
)

OWN = frozenset({"workstation.lan", "workstation"})
HOST = {"Host": "gateway.internal:11434"}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:11434",
        "localhost.",
        "127.0.0.1:11434",
        "[::1]:11434",
        "[::1]",
        "192.168.1.7:80",
        "8.8.8.8",
        "printer.local:1",
        "app.localhost",
        "ollama.internal:11434",
        "Workstation.lan:11434",
        "workstation",
        "chat.example.org",
        "chat.example.org:443",
    ],
)
def test_a_name_of_ours_is_served(host: str) -> None:
    options = Options(allow_hosts=frozenset({"chat.example.org"}))
    check_host([host], options, OWN)


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"],
        ["evil.example:11434"],
        ["localhost.evil.example"],
        ["local"],
        ["127.0.0.1.evil.example"],
        ["notlocalhost"],
        ["[evil.example]:11434"],
        [""],
        ["::1"],
        ["localhost", "evil.example"],
        ["localhost", "localhost"],
        ["\udcffevil"],
    ],
)
def test_another_name_is_refused_and_the_option_named(hosts: list[str]) -> None:
    with pytest.raises(BadRequest, match="--allow-host") as refusal:
        check_host(hosts, Options(), OWN)
    assert refusal.value.status == 403
    str(refusal.value).encode()


def test_http_1_0_without_a_host_is_served() -> None:
    check_host([], Options(), OWN)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("A.b:1", "a.b"),
        ("a.b.", "a.b"),
        ("a.b.:1", "a.b"),
        ("[FE80::1]:1", "fe80::1"),
        (" localhost ", "localhost"),
    ],
)
def test_the_name_in_a_host_header(value: str, name: str) -> None:
    assert host_name(value) == name


@pytest.mark.parametrize(
    "peer",
    ["192.168.1.20", "::ffff:192.168.1.20", "127.0.0.1", "::1", "fd00::5", "fd00::5%3"],
)
def test_an_allowed_address_and_this_machine_may_ask(peer: str) -> None:
    networks = (ip_network("192.168.1.0/24"), ip_network("fd00::/64"))
    check_address(peer, Options(host="0.0.0.0", allow_from=networks))


@pytest.mark.parametrize("peer", ["192.168.2.20", "::ffff:10.0.0.1", "fe80::1%2", None])
def test_another_address_is_refused(peer: str | None) -> None:
    networks = (ip_network("192.168.1.0/24"),)
    with pytest.raises(BadRequest) as refusal:
        check_address(peer, Options(host="0.0.0.0", allow_from=networks))
    assert refusal.value.status == 403


def test_without_allow_from_every_address_may_ask() -> None:
    check_address("203.0.113.9", Options(host="0.0.0.0", api_key="k"))


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:3000",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://0.0.0.0:8080",
        "http://app.localhost:5173",
        "http://gateway.internal:11434",
        "https://gateway.internal:11434",
        "https://chat.example.org",
        "HTTPS://CHAT.example.org",
        "chrome-extension://abcdef",
        "app://obsidian.md",
        "tauri://localhost",
        "vscode-webview://1a2b",
    ],
)
def test_a_page_of_ours_or_an_allowed_one_may_read(origin: str) -> None:
    options = Options(
        origins=frozenset({"https://chat.example.org", "chrome-extension://abcdef"})
    )
    for site in ({}, {"Sec-Fetch-Site": "cross-site"}):
        headers = {**HOST, "Origin": origin, **site}
        assert check_origin(headers, "/api/chat", options) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example:11434",
        "http://gateway.internal:1",
        "http://gateway.internal",
        "chrome-extension://other",
        "http://",
        "http://[",
        "ftp://localhost",
        "http://localhost\udcff.localhost",
        "https://chat.example.org.evil.example",
    ],
)
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    options = Options(origins=frozenset({"https://chat.example.org"}))
    for headers in ({**HOST, "Origin": origin}, {"Origin": origin}):
        with pytest.raises(BadRequest) as refusal:
            check_origin(headers, "/api/tags", options)
        assert refusal.value.status == 403
        str(refusal.value).encode()


@pytest.mark.parametrize("site", ["none", "same-origin", "same-site", None])
def test_without_an_origin_a_request_of_this_site_or_a_program_passes(
    site: str | None,
) -> None:
    headers = HOST if site is None else {**HOST, "Sec-Fetch-Site": site}
    assert check_origin(headers, "/api/chat", Options()) is None


def test_a_request_of_another_site_without_an_origin_is_refused() -> None:
    headers = {**HOST, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}
    for path in ("/", "/api/tags"):
        with pytest.raises(BadRequest):
            check_origin(headers, path, Options())


def test_a_link_on_another_site_may_lead_to_the_page_only() -> None:
    headers = {**HOST, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    assert check_origin(headers, "/", Options()) is None
    with pytest.raises(BadRequest):
        check_origin(headers, "/api/tags", Options())


def test_a_preflight_allows_the_headers_asked_for_but_never_private_networks() -> None:
    asked = {
        "Access-Control-Request-Headers": "authorization, x-stainless-os",
        "Access-Control-Request-Private-Network": "true",
    }
    allowed = preflight(asked)
    assert allowed["Access-Control-Allow-Headers"] == "authorization, x-stainless-os"
    assert "Private" not in "".join(allowed)
    strange = preflight({"Access-Control-Request-Headers": "a; b\x00"})
    assert strange["Access-Control-Allow-Headers"] == "Authorization, Content-Type"


@pytest.mark.parametrize(
    ("headers", "is_right"),
    [
        ({"Authorization": "Bearer secret"}, True),
        ({"Authorization": "bearer  secret "}, True),
        ({"x-api-key": "secret"}, True),
        ({"Authorization": "Bearer wrong", "x-api-key": "secret"}, True),
        ({}, False),
        ({"Authorization": "Bearer"}, False),
        ({"Authorization": "Basic secret"}, False),
        ({"Authorization": "secret"}, False),
        ({"Authorization": "Bearer secre"}, False),
        ({"Authorization": "Bearer secret1"}, False),
        ({"x-api-key": ""}, False),
        ({"x-api-key": "s\udcffcret"}, False),
    ],
)
def test_the_key_is_taken_from_either_header(
    headers: dict[str, str], is_right: bool
) -> None:
    assert has_key(headers, "secret") is is_right
    assert has_key(headers, None)
