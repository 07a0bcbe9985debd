"""trust.json: what is in the file is what we read and what we refuse, with its code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nacl.signing import SigningKey

from meshllm.errors import MeshError
from meshllm.trust import signed
from meshllm.trust.admission import supersedes
from meshllm.trust.grants import Revocations, Statement
from meshllm.trust.keys import b64decode, b64encode, peer_id, public_key
from meshllm.trust.link import Invitation, open_invitation, parse_link, seal_invitation
from meshllm.trust.strict import parse_object
from tests.vectors import make_trust
from tests.vectors.make_spellings import link_fields
from tests.vectors.outcome import outcome

FILE: dict[str, Any] = json.loads((make_trust.FOLDER / "trust.json").read_bytes())


def test_the_file_is_what_the_script_makes() -> None:
    made = (make_trust.FOLDER / "trust.json").read_text(encoding="utf-8")

    assert made == make_trust.dump("trust.json")


def test_keys_have_their_ids() -> None:
    for pair in FILE["keys"].values():
        key = SigningKey(bytes.fromhex(pair["seed"]))
        assert peer_id(bytes(key.verify_key)) == pair["id"]


@pytest.mark.parametrize("case", FILE["tokens"]["read"], ids=lambda case: case["kind"])
def test_tokens_are_read_and_made_again(case: dict[str, Any]) -> None:
    key = SigningKey(bytes.fromhex(FILE["keys"][case["by"]]["seed"]))
    kind, token = case["kind"], case["token"]

    assert signed.read(kind, token, bytes(key.verify_key)) == case["fields"]
    assert signed.sign(kind, case["fields"], key) == token
    make_trust.read(kind, token)


@pytest.mark.parametrize("case", FILE["tokens"]["refused"], ids=lambda c: c["name"])
def test_other_tokens_are_refused(case: dict[str, Any]) -> None:
    kind, token = case["kind"], case["token"]

    assert outcome(make_trust.read, kind, token) == {"code": case["code"]}


@pytest.mark.parametrize("case", FILE["chains"], ids=lambda case: case["name"])
def test_a_chain_admits_or_is_refused(case: dict[str, Any]) -> None:
    given = {k: v for k, v in case.items() if k not in ("admission", "code")}

    assert given | outcome(make_trust.enter, given) == case


@pytest.mark.parametrize("case", FILE["lists"], ids=lambda case: case["name"])
def test_a_list_replaces_another_or_not(case: dict[str, Any]) -> None:
    kept = Revocations.read(case["kept"]) if case["kept"] else None
    statement = Statement.read(case["statement"])

    new = supersedes(Revocations.read(case["new"]), kept, statement)
    assert new is case["replaces"]


def test_base64url() -> None:
    for data, text in FILE["base64url"]["read"]:
        assert b64decode(text) == bytes.fromhex(data)
        assert b64encode(bytes.fromhex(data)) == text
    for text in FILE["base64url"]["refused"]:
        with pytest.raises(MeshError):
            b64decode(text)


def test_ids() -> None:
    for public, id in FILE["ids"]["read"]:
        assert public_key(id) == bytes.fromhex(public)
    for id in FILE["ids"]["refused"]:
        with pytest.raises(MeshError):
            public_key(id)


def test_strict_json() -> None:
    for text in FILE["json"]["read"]:
        data = text.encode()
        assert parse_object(data, max_bytes=len(data)) == json.loads(text)
    for text in FILE["json"]["refused"]:
        with pytest.raises(MeshError):
            parse_object(text.encode(), max_bytes=4_096)


def test_links() -> None:
    for case in FILE["links"]["read"]:
        assert {"link": case["link"]} | link_fields(case["link"]) == case
    for link in FILE["links"]["refused"]:
        with pytest.raises(MeshError):
            parse_link(link)


def test_sealed_invitations() -> None:
    case = FILE["sealed"]
    key, invitation = b64decode(case["key"]), Invitation.from_json(case["invitation"])
    sealed = b64decode(case["sealed"])

    assert open_invitation(sealed, key) == invitation
    assert seal_invitation(invitation, key, b64decode(case["nonce"])) == sealed
    for wrong in case["refused"]:
        with pytest.raises(MeshError):
            open_invitation(b64decode(wrong), key)


def test_the_file_holds_both_ends_of_every_rule() -> None:
    """A file that lost its refusals, or its readings, would pass all of the above."""
    codes = {case.get("code") for case in FILE["chains"]}

    assert codes == {None, "auth", "revoked"}
    assert {case["code"] for case in FILE["tokens"]["refused"]} == {"auth", "protocol"}
    kinds = {case["kind"] for case in FILE["tokens"]["read"]}
    assert kinds == {case["kind"] for case in FILE["tokens"]["refused"]}
    assert {case["replaces"] for case in FILE["lists"]} == {True, False}
