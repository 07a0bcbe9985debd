from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from meshllm.errors import ConfigError
from meshllm.gateway import Options, read_options


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_guard(host: str) -> None:
    assert Options(host=host).api_key is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu.lan", ""])
def test_beyond_loopback_it_refuses_to_start_without_key_or_addresses(
    host: str,
) -> None:
    with pytest.raises(ConfigError, match="--api-key-file FILE` or `--allow-from"):
        Options(host=host)
    Options(host=host, api_key="k")
    Options(host=host, allow_from=(ip_network("10.0.0.0/8"),))


def test_the_key_is_one_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  secret-key\n")
    assert read_options(api_key_file=file).api_key == "secret-key"
    assert "secret-key" not in repr(read_options(api_key_file=file))


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", b"\xff", b"x" * 5000])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="key"):
        read_options(api_key_file=file)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing-here cannot be read: No such file"):
        read_options(api_key_file=tmp_path / "nothing-here")


def test_what_a_person_types_is_normalised() -> None:
    options = read_options(
        allow_from=["192.168.1.7/24", "10.0.0.1"],
        allow_host=["Chat.Example.org."],
        origin=["https://Chat.Example.org/", "chrome-extension://abc"],
    )
    assert options.allow_from == (
        ip_network("192.168.1.0/24"),
        ip_network("10.0.0.1/32"),
    )
    assert options.allow_hosts == {"chat.example.org"}
    assert options.origins == {"https://chat.example.org", "chrome-extension://abc"}


@pytest.mark.parametrize("origin", ["*", "chat.example.org", "https://a.b/path", "x:"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match="is no origin"):
        read_options(origin=[origin])


def test_what_is_no_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no address range"):
        read_options(allow_from=["my-lan"])
