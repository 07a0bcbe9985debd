"""Who is let in to the page: the link works once, the cookie for the page only."""

from __future__ import annotations

import pytest

from meshllm.gateway.access import PageAccess

HOST = "127.0.0.1:11434"


def token_of(access: PageAccess) -> str:
    return access.link("http://x").partition("?open=")[2]


def cookie_of(access: PageAccess, host: str = HOST) -> str:
    return access.cookie(host).partition(";")[0]


def test_a_link_works_once_and_another_follows() -> None:
    access = PageAccess(b"s" * 32)
    used: list[str] = []
    access.on_used = lambda: used.append(access.link("http://x"))
    first = token_of(access)

    assert access.use(first)
    assert not access.use(first)
    assert used == [f"http://x/?open={token_of(access)}"]
    assert access.use(token_of(access))


def test_a_cookie_outlives_the_gateway_but_not_its_secret() -> None:
    cookie = cookie_of(PageAccess(b"s" * 32))
    headers = {"Host": HOST, "Cookie": cookie}
    assert PageAccess(b"s" * 32).knows(headers)
    assert not PageAccess(b"t" * 32).knows(headers)


def test_a_cookie_is_for_scripts_and_other_sites_not_to_have() -> None:
    cookie = PageAccess(b"s" * 32).cookie(HOST)
    assert "; HttpOnly" in cookie
    assert "; SameSite=Strict" in cookie


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:1", "localhost:1", "name"])
def test_each_gateway_of_a_machine_has_its_own(host: str) -> None:
    access = PageAccess(b"s" * 32)
    headers = {"Cookie": cookie_of(access, host)}
    assert access.knows({**headers, "Host": host})
    assert not access.knows({**headers, "Host": HOST})


@pytest.mark.parametrize("cookie", ["", "nonsense", "meshllm-page-11434=", "a=b; c"])
def test_strange_cookies_let_nobody_in(cookie: str) -> None:
    access = PageAccess(b"s" * 32)
    assert not access.knows({"Host": HOST, "Cookie": cookie})
    assert not access.knows({"Host": HOST})


@pytest.mark.parametrize(
    ("headers", "is_page"),
    [
        ({}, True),
        ({"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        # A server on another port: the browser sends the cookie along all the same.
        ({"Origin": "http://127.0.0.1:3000"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_only_the_page_itself_is_the_page(
    headers: dict[str, str], is_page: bool
) -> None:
    access = PageAccess(b"s" * 32)
    known = {"Host": HOST, "Cookie": cookie_of(access), **headers}
    assert access.is_page(known) is is_page
    del known["Cookie"]
    assert not access.is_page(known)
