from __future__ import annotations

import re
import subprocess
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


def key_file(folder: Path, content: bytes) -> Path:
    path = folder / "api key"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_the_key_is_one_line_of_its_file(tmp_path: Path) -> None:
    file = key_file(tmp_path, b"  secret-key\n")
    assert read_options(api_key_file=file).api_key == "secret-key"
    assert "secret-key" not in repr(read_options(api_key_file=file))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty. Write a long random key"),
        (b" \n\n", "is empty"),
        (b"two\nlines\n", "holds 2 lines: the API key is only one"),
        (b"\xff\xfe\x00", "is no text: the API key is one line of plain ASCII"),
        (b"k\x00y", "holds control characters"),
        (b"x" * 5000, "is larger than 4096 bytes: it holds no API key"),
    ],
)
def test_a_file_that_is_no_key_is_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read_options(api_key_file=key_file(tmp_path, content))
    assert str(refused.value).startswith(f"{tmp_path / 'api key'} {said}")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused_with_what_to_type(
    tmp_path: Path, mode: int
) -> None:
    file = key_file(tmp_path, b"secret\n")
    file.chmod(mode)
    with pytest.raises(ConfigError, match="can be read by others") as refused:
        read_options(api_key_file=file)
    assert f"(mode {mode:04o})" in str(refused.value)
    subprocess.run(re.findall("`(.*)`", str(refused.value))[0], shell=True, check=True)
    assert read_options(api_key_file=file).api_key == "secret"


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no API key file .*nothing-here"):
        read_options(api_key_file=tmp_path / "nothing-here")


def test_a_device_is_not_to_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^/dev/null is empty"):
        read_options(api_key_file=Path("/dev/null"))


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_options(api_key_file=tmp_path)


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
