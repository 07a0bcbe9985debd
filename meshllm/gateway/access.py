"""Which browsers are let in to the page: a one-time link, and the cookie it is worth.

Other programs and other people of this machine reach the gateway's port too: the page's
private routes ask for the cookie, and that the request comes from the page itself.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie

from meshllm.gateway.guards import host_name

TOKEN_BYTES = 16
LIVES_S = 400 * 86_400  # the longest that browsers keep a cookie
QUERY = "open"


class PageAccess:
    """`secret` is of this home: a browser that was let in stays so over restarts.

    `on_used` hears that the link was used, so that another one may be shown.
    """

    def __init__(self, secret: bytes) -> None:
        self._cookie = hmac.new(secret, b"meshllm/page/v1", hashlib.sha256).hexdigest()
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self.on_used: Callable[[], None] = lambda: None

    def link(self, url: str) -> str:
        """Opens the page once, in one browser; after that it is another."""
        return f"{url}/?{QUERY}={self._token}"

    def use(self, token: str) -> bool:
        """Whether this is the link's token, which from now on is worth nothing."""
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return False
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self.on_used()
        return True

    def cookie(self, host: str) -> str:
        """A Set-Cookie header for the browser that is let in."""
        return (
            f"{_name(host)}={self._cookie}; Path=/; Max-Age={LIVES_S}; HttpOnly; "
            "SameSite=Strict"
        )

    def knows(self, headers: Mapping[str, str]) -> bool:
        """Whether the browser that asks was let in."""
        try:
            cookies = SimpleCookie(headers.get("Cookie", ""))
        except CookieError:
            return False
        given = cookies.get(_name(headers.get("Host", "")))
        return given is not None and hmac.compare_digest(given.value, self._cookie)

    def is_page(self, headers: Mapping[str, str]) -> bool:
        """Whether the page itself asks, in a browser that was let in.

        SameSite knows no ports: pages of other servers of this machine send the cookie
        too, but cannot hide that they are others.
        """
        site = headers.get("Sec-Fetch-Site", "same-origin").lower()
        origin = headers.get("Origin")
        host = headers.get("Host", "").lower()
        is_own = origin is None or origin.lower() in (
            f"http://{host}",
            f"https://{host}",
        )
        return is_own and site in ("same-origin", "none") and self.knows(headers)


def _name(host: str) -> str:
    """Of the cookie. Browsers share cookies between the ports of a host: each gateway
    there has its own."""
    port = host.strip().lower().removeprefix(f"[{host_name(host)}]")
    return f"meshllm-page-{port.rpartition(':')[2] if ':' in port else '80'}"
