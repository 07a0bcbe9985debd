"""What is refused before anything starts: one line that says what to type."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshllm.cli.root import root

NO_MESH = (
    "This node is in no mesh. `meshllm join LINK`, or `meshllm init` to make one.\n"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(root, ["--home", str(home), *words])


@pytest.mark.parametrize(
    "words",
    [
        ["share"],
        ["gateway", "--port", "0"],
        ["chat", "model", "hello"],
        ["chat"],
        ["models"],
        ["status"],
        ["peers"],
        ["logs"],
        ["logs", "-f"],
        ["doctor"],
        ["invite"],
        ["leave"],
    ],
)
def test_before_joining_every_command_says_how_to(home: Path, words: list[str]) -> None:
    done = run(home, *words)
    assert (done.exit_code, done.stderr, done.stdout) == (1, NO_MESH, "")


@pytest.mark.parametrize("words", [["peers"], ["logs"], ["logs", "-f"]])
def test_when_nothing_runs_it_says_what_to_start(home: Path, words: list[str]) -> None:
    run(home, "init")
    done = run(home, *words)
    assert done.exit_code == 1
    assert "Start `meshllm share` or `meshllm gateway`." in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["invite", "--tokens-per-day", "5"], "--tokens-per-day"),
    ],
)
def test_what_is_not_built_yet_says_so(
    home: Path, words: list[str], option: str
) -> None:
    run(home, "init")
    done = run(home, *words)
    said = f"{option} is not built yet; it comes with a later version.\n"
    assert (done.exit_code, done.stderr) == (1, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["share", "--peer", "10.0.0.1", "--no-lan"], "--peer and --no-lan exclude"),
        (["gateway", "--peer", "10.0.0.1", "--relay-only"], "--peer and --relay-only"),
        (["chat", "--peer", "10.0.0.1:0"], "is no address; write 192.168.1.5"),
        (["chat", "--peer", "fd00::5"], "is no address; write 192.168.1.5"),
    ],
)
def test_peers_by_hand_are_addresses_of_the_lan(
    home: Path, words: list[str], said: str
) -> None:
    run(home, "init")
    done = run(home, *words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize("words", [["share", "--no-lan"], ["gateway", "--relay-only"]])
def test_a_mesh_without_a_server_needs_the_lan(home: Path, words: list[str]) -> None:
    run(home, "init")
    done = run(home, *words)
    assert done.exit_code == 1
    assert "has no signaling server, so its nodes meet on the LAN" in done.stderr


def test_a_second_init_is_refused_and_names_home(home: Path) -> None:
    assert run(home, "init").exit_code == 0
    done = run(home, "init")
    assert done.exit_code == 1
    assert "in a mesh already" in done.stderr
    assert "`--home DIR`" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["join", "nonsense"], "This is no meshllm link."),
        (["join", "https://hub.example/"], "in quotes, because of the #"),
        (["init", "nonsense"], "This is no meshllm link."),
        (["init", "https://hub.example/#v1.AAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA"],
         "`meshllm join LINK`"),
        (["join", f"https://hub.example/#s1.AAAAAAAAAAAAAAAAAAAAAA.{'a' * 52}"],
         "`meshllm init LINK`"),
    ],
)  # fmt: skip
def test_a_link_of_another_kind_is_explained(
    home: Path, words: list[str], said: str
) -> None:
    done = run(home, *words)
    assert done.exit_code == 1
    assert said in done.stderr
    assert not (home / "mesh.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pair", "--no-lan"], 2, "it takes a MAILBOX and its --hub"),
        (["pair", "--role", "member"], 2, "the owner's machine"),
        (["pair", "412"], 1, "`meshllm pair 412 --hub https://…`"),
        (["pair", "412", "--hub", "ftp://x"], 1, "not an address"),
        (["pair", "99"], 2, "99 is not in the range 100<=x<=999"),
        (["pair", "412", "--hub", "x", "--role", "member"], 2, "the owner's machine"),
        (["pair", "412", "--hub", "x", "--name", "me"], 2, "the owner's machine"),
    ],
)
def test_pairing_says_what_is_typed_where(
    home: Path, words: list[str], code: int, said: str
) -> None:
    done = run(home, *words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert not (home / "mesh.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["gateway", "--host", "0.0.0.0"],
        ["signal", "--host", "0.0.0.0"],
    ],
)
def test_beyond_loopback_something_is_needed(home: Path, words: list[str]) -> None:
    run(home, "init")
    done = run(home, *words, "--port", "0")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--turn", "turn:r.example"], "--turn needs --turn-secret-file"),
        (["--stun", "r.example"], "--stun r.example: write it like stun:"),
        (["--stun", "turn:r.example"], "--stun turn:r.example: write it like stun:"),
        (["--trusted-proxy", "10.0.0.1/8"], "--trusted-proxy 10.0.0.1/8:"),
        (["--external-ip", "8.8.8.8"], "--external-ip is about --coturn: add that"),
        (["--turn-relay-ports", "5-6"], "--turn-relay-ports is about --coturn"),
        (["--coturn", "--external-ip", "here"], "--external-ip here: write one IP"),
        (["--coturn", "--turn-ip", "10.0.0.0/8"], "--turn-ip 10.0.0.0/8: write one IP"),
        (["--coturn", "--turn-host", "a b"], "--turn-host a b: write a name"),
        (["--coturn", "--turn-relay-ports", "5"], "--turn-relay-ports 5: write two"),
        (["--coturn", "--turn-relay-ports", "9000-8000"], "--turn-relay-ports 9000-"),
        (["--coturn", "--turn-relay-ports", "80-8000"], "--turn-relay-ports 80-"),
        (["--coturn", "--turn-relay-ports", "8000-70000"], "--turn-relay-ports 8000-"),
        (["--coturn", "--turn-tls-port", "5349"], "--turn-tls-port needs --tls-cert"),
        (
            ["--coturn", "--turn-tls-port", "443", "--turn-proxy-port", "3480"],
            "--turn-proxy-port and --turn-tls-port exclude each other",
        ),
    ],
)
def test_a_server_option_that_cannot_work_is_refused(
    home: Path, words: list[str], said: str
) -> None:
    done = run(home, "signal", *words)
    assert (done.exit_code, done.stderr[: len(said)]) == (1, said)


def test_an_empty_turn_secret_is_refused(home: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("\n")
    secret.chmod(0o600)
    words = ("--turn", "turn:r.example", "--turn-secret-file", str(secret))
    done = run(home, "signal", *words)
    assert (done.exit_code, "is empty" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (["chat", "model", ""], b"", "The prompt is empty: say what to ask"),
        (["chat", "model", " \n"], b"", "The prompt is empty"),
        (["chat", "model", "\udcff"], b"", "The prompt is not UTF-8 text."),
        (["demo", "--once", ""], b"", "The prompt is empty"),
        (["chat", "model", "-"], b"", "Nothing came on stdin to ask. Pipe a question"),
        (["chat", "-"], b" \n", "Nothing came on stdin to ask."),
        (["chat", "-"], b"caf\xe9", "What came on stdin is not UTF-8 text."),
    ],
)
def test_a_prompt_that_asks_nothing_is_wrong_usage(
    home: Path, words: list[str], stdin: bytes, said: str
) -> None:
    run(home, "init")
    done = CliRunner().invoke(root, ["--home", str(home), *words], input=stdin)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"Error: {said}" in done.stderr


def test_a_turn_secret_that_others_may_read_is_refused(
    home: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("shared with the relay\n")
    secret.chmod(0o644)
    words = ("--turn", "turn:r.example", "--turn-secret-file", str(secret))
    done = run(home, "signal", *words)
    assert (done.exit_code, "`chmod 600" in done.stderr) == (1, True)


@pytest.mark.parametrize("text", ["7", "d", "0d", "-1d", "7y", "7 d", ""])
def test_a_length_of_time_has_a_number_and_a_unit(home: Path, text: str) -> None:
    done = run(home, "invite", "--expires", text)
    assert done.exit_code == 2
    assert "write 30m, 12h, 7d or 2w" in done.stderr
