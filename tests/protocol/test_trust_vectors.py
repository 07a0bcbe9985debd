"""envelope.json and hello.json: what is in the files is what we open and refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nacl.public import PrivateKey

from meshllm.errors import Code
from meshllm.protocol import hello
from meshllm.protocol.envelope import Refusal, SeenPaths, open_envelope, seal
from meshllm.trust import signed
from meshllm.trust.keys import PeerId
from tests.fakes.people import NOW, id_of, key
from tests.vectors import make_envelope, make_trust
from tests.vectors.outcome import outcome

ENVELOPES: dict[str, Any] = json.loads(
    (make_trust.FOLDER / "envelope.json").read_bytes()
)
HELLOS: dict[str, Any] = json.loads((make_trust.FOLDER / "hello.json").read_bytes())
BOX = PrivateKey(bytes.fromhex(ENVELOPES["receiver"]["box"]))
ME = PeerId(ENVELOPES["receiver"]["id"])


@pytest.mark.parametrize("name", ["envelope.json", "hello.json"])
def test_the_file_is_what_the_script_makes(name: str) -> None:
    made = (make_trust.FOLDER / name).read_text(encoding="utf-8")

    assert made == make_trust.dump(name)


@pytest.mark.parametrize("case", ENVELOPES["opened"], ids=lambda case: case["kind"])
def test_envelopes_are_opened_and_made_again(case: dict[str, Any]) -> None:
    envelope = bytes.fromhex(case["envelope"])
    ephemeral = PrivateKey(bytes.fromhex(ENVELOPES["ephemeral"]))
    nonce = bytes.fromhex(ENVELOPES["nonce"])

    signal, digest = open_envelope(
        envelope, BOX, me=ME, outer_sender=id_of(case["outer"]), now=case["now"]
    )

    assert digest.hex() == case["digest"]
    assert type(signal).__name__.lower() == case["kind"]
    to, by = bytes(BOX.public_key), key(case["by"])
    assert seal(signal, by, to, ephemeral, nonce) == (envelope, digest)
    assert signed.sign(case["kind"], case["fields"], by) == case["form"]


@pytest.mark.parametrize("case", ENVELOPES["refused"], ids=lambda case: case["name"])
def test_other_envelopes_are_refused(case: dict[str, Any]) -> None:
    opened = outcome(
        make_envelope.opening, case["envelope"], case["outer"], case["now"]
    )

    assert opened == {"code": case["code"]}


def test_an_unknown_code_is_read_as_internal() -> None:
    envelope = bytes.fromhex(ENVELOPES["unknown_code"]["envelope"])

    refusal, _ = open_envelope(envelope, BOX, me=ME, outer_sender=None, now=NOW)

    assert isinstance(refusal, Refusal)
    assert refusal.code == ENVELOPES["unknown_code"]["read"] == Code.INTERNAL


def test_paths_are_new_once() -> None:
    seen = SeenPaths()
    for case in ENVELOPES["seen"]:
        path = case["path"].to_bytes(16)
        assert seen.is_new(id_of(case["sender"]), path, case["now"]) is case["new"]


def test_the_transcript() -> None:
    parts: dict[str, Any] = {
        name: part if name in ("offerer", "answerer") else bytes.fromhex(part)
        for name, part in HELLOS["parts"].items()
    }

    assert hello.transcript(**parts).hex() == HELLOS["transcript"]
    assert hello.commit(bytes.fromhex(HELLOS["nonce_a"])) == parts["commit"]


@pytest.mark.parametrize("case", HELLOS["checked"], ids=lambda case: case["name"])
def test_a_hello_proves_or_is_refused(case: dict[str, Any]) -> None:
    transcript = bytes.fromhex(HELLOS["transcript"])
    checked = outcome(make_envelope.checking, case, transcript)

    assert checked == ({"code": case["code"]} if "code" in case else {})


def test_the_files_hold_both_ends_of_every_rule() -> None:
    codes = {case["code"] for case in ENVELOPES["refused"]}

    assert codes == {"auth", "protocol", "clock_skew"}
    assert [case["name"] for case in HELLOS["checked"] if "code" not in case] == [
        "the offerer",
        "the answerer",
    ]
