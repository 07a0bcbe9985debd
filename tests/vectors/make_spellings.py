"""The parts of trust.json about how things are spelled: ids, base64url, JSON, links."""

from __future__ import annotations

from typing import Any

from meshllm.trust.keys import b64encode
from meshllm.trust.link import (
    Invitation,
    OfflineLink,
    SetupLink,
    ShortLink,
    parse_link,
    seal_invitation,
)
from tests.fakes.people import id_of, key

ID = id_of("ann")
HUB, KEY, NONCE = "https://hub.example.org:8443", bytes(range(16)), bytes(range(24))
INVITATION = Invitation(id_of("hub"), "a statement", "a ticket", bytes(key("seed")))
ON_LAN = Invitation(None, "a statement", "a ticket", bytes(key("seed")))
SHORT = ShortLink(HUB, bytes(range(8)), KEY)
GOOD_LINKS = [
    str(SHORT),
    f" {SHORT}\n",
    "HTTPS://Hub.Example.ORG/#v1.AAECAwQFBgc.AAECAwQFBgcICQoLDA0ODw",
    "http://[::1]:8080#v1.AAECAwQFBgc.AAECAwQFBgcICQoLDA0ODw",
    str(SetupLink(HUB, KEY, id_of("hub"))),
    str(OfflineLink(HUB, INVITATION)),
    str(OfflineLink(None, ON_LAN)),
]
BAD_LINKS = [
    "",
    HUB,
    f"{HUB}/#v1.AAECAwQFBgc",
    f"{HUB}/#v1.AAECAwQFBgd.AAECAwQFBgcICQoLDA0ODw",  # set trailing bits
    f"{HUB}/#v2.AAECAwQFBgc.AAECAwQFBgcICQoLDA0ODw",
    f"{HUB}/path#v1.AAECAwQFBgc.AAECAwQFBgcICQoLDA0ODw",
    f"{HUB}/?a=b#v1.AAECAwQFBgc.AAECAwQFBgcICQoLDA0ODw",
    "https://user@hub.example.org/#v1.AAECAwQFBgc.AAECAwQFBgcICQoLDA0ODw",
    "javascript://hub/#v1.AAECAwQFBgc.AAECAwQFBgcICQoLDA0ODw",
    f"{HUB}/#s1.AAECAwQFBgcICQoLDA0ODw.{id_of('hub')[:-1]}",
    str(OfflineLink(HUB, INVITATION))[:-4],
    f"{HUB}/#v1o.e30",
    str(OfflineLink("ftp://hub.example.org", INVITATION)),
]
DEEPEST = '{"a":' + "[" * 15 + "]" * 15 + "}"
GOOD_JSON = [
    "{}",
    ' { "a" : [ 1 , -1 , 0.5 , 1e2 , true , false , null ] } ',
    '{"a":9007199254740991,"b":-9007199254740991}',
    '{"a":"\\ud83d\\ude00 \\u00e4"}',
    '{"__proto__":1,"constructor":2}',
    '{"a":{"b":1},"b":1}',
    DEEPEST,
]
BAD_JSON = [
    "",
    "[]",
    "null",
    "{}{}",
    '{"a":1,}',
    "{'a':1}",
    '{"a":01}',
    '{"a":.5}',
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":1e400}',
    '{"a":9007199254740992}',
    '{"a":-9007199254740992}',
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '{"a":{"b":1,"b":2}}',
    '{"a":"\\ud800"}',
    '{"\\udfff":1}',
    '{"a":"\t"}',
    '\ufeff{"a":1}',
    DEEPEST.replace("[]", "[[]]"),
]


def spellings() -> dict[str, Any]:
    sealed = seal_invitation(INVITATION, KEY, NONCE)
    return {
        "base64url": {
            "read": [[data.hex(), b64encode(data)] for data in (b"", b"\xff\xfe", KEY)],
            "refused": ["A", "AB", "AA==", "AA=", "A+/A", "AA AA", "AAAA\n", "AAAé"],
        },
        "ids": {
            "read": [[bytes(key("ann").verify_key).hex(), ID]],
            "refused": ["", ID[:-1], ID + "a", ID.upper(), ID[:-1] + "b", "1" + ID[1:]],
        },
        "json": {"depth": 16, "read": GOOD_JSON, "refused": BAD_JSON},
        "links": {
            "read": [{"link": link} | link_fields(link) for link in GOOD_LINKS],
            "refused": BAD_LINKS,
        },
        "sealed": {
            "key": b64encode(KEY),
            "nonce": b64encode(NONCE),
            "invitation": INVITATION.to_json(),
            "sealed": b64encode(sealed),
            "refused": [
                "",
                b64encode(sealed[:23]),
                b64encode(sealed[:-1]),
                b64encode(sealed[:-1] + bytes([sealed[-1] ^ 1])),
                b64encode(bytes([sealed[0] ^ 1]) + sealed[1:]),
            ],
        },
    }


def link_fields(link: str) -> dict[str, Any]:
    match parse_link(link):
        case ShortLink(hub, id, secret):
            return {"hub": hub, "id": b64encode(id), "key": b64encode(secret)}
        case SetupLink(hub, token, server):
            return {"hub": hub, "token": b64encode(token), "server": server}
        case OfflineLink(on_hub, invitation):
            return {"hub": on_hub, "invitation": invitation.to_json()}
