"""The built chat page (not committed): what answers a request, with what headers.

`make setup` builds it into `built/` beside this file, everything compressed already.
`signal` and `gateway` serve the same files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from aiohttp import web

Server = Literal["gateway", "signal"]

BUILT: Final = Path(__file__).parent / "built"
HTML: Final = "text/html; charset=utf-8"
# `signal` and `gateway` serve what is here and nothing else.
ASSET: Final = re.compile(r"/(?:assets|icons)/[\w-]+(?:\.[\w-]+)*", re.ASCII)
OTHERS: Final = frozenset({"/worker.js", "/manifest.webmanifest", "/plain.css"})
# Their names carry a hash of their content.
FOR_EVER: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "no-cache"
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
HOST: Final = re.compile(r"[\w.:\[\]-]+", re.ASCII)
NOT_BUILT: Final = "The chat page is not built. In a checkout: make setup\n"
SAME_ORIGIN: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_file(path: str) -> bool:
    """Whether a path of a request names a file that belongs to the page."""
    return path in OTHERS or ASSET.fullmatch(path) is not None


def is_built() -> bool:
    return (BUILT / "index.html").is_file()


def document(request: web.BaseRequest, server: Server) -> web.Response:
    """The page itself; 503 with the command that builds it when there is none."""
    if not is_built():
        return web.Response(status=503, text=NOT_BUILT)
    name = "gateway.html" if server == "gateway" else "index.html"
    response = _send(request, BUILT / name, HTML, ASK_AGAIN)
    response.headers["Content-Security-Policy"] = policy(request.host)
    response.headers["Permissions-Policy"] = (
        "camera=(self), geolocation=(), microphone=(), payment=(), usb=()"
    )
    response.headers["Meshllm-Page"] = "1"  # tells its worker what may be kept
    return response


def file(request: web.BaseRequest) -> web.Response:
    """A file of the page; 404 when there is none of that name."""
    path = BUILT / request.path.removeprefix("/")
    content_type = TYPES.get(path.suffix)
    if not is_file(request.path) or content_type is None or not path.is_file():
        return web.Response(status=404, text="404 page not found")
    is_hashed = request.path.startswith("/assets/")
    return _send(request, path, content_type, FOR_EVER if is_hashed else ASK_AGAIN)


def plain(title: str, paragraphs: list[str], status: int = 200) -> web.Response:
    """A page without script, for what has to be said before the chat page is there.

    `title` and `paragraphs` are ours; what stands between backticks is code.
    """
    body = "".join(f"<p>{_with_code(text)}</p>" for text in paragraphs)
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{title} · meshllm</title><link rel="stylesheet" href="/plain.css">'
        f"</head><body><main><h1>{title}</h1>{body}</main></body></html>"
    )
    headers = {
        **SAME_ORIGIN,
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Content-Type": HTML,
    }
    return web.Response(status=status, body=html.encode(), headers=headers)


def policy(host: str) -> str:
    """The Content-Security-Policy: our own files, our own server, nothing inline."""
    connect = "'self'"
    if HOST.fullmatch(host):  # older browsers do not take 'self' for a WebSocket's
        connect += f" ws://{host} wss://{host}"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob: data:",
            "font-src 'self'",
            f"connect-src {connect}",
            "manifest-src 'self'",
            "worker-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types meshllm",
        )
    )


def _send(
    request: web.BaseRequest, path: Path, content_type: str, caching: str
) -> web.Response:
    path, encoding = _variant(path, request.headers)
    headers = {
        **SAME_ORIGIN,
        "Cache-Control": caching,
        "Content-Type": content_type,
        "Vary": "Accept-Encoding",
    }
    if encoding:
        headers["Content-Encoding"] = encoding
    # At most 260 KB, off the local disk: not worth a thread.
    return web.Response(body=path.read_bytes(), headers=headers)


def _variant(path: Path, headers: Mapping[str, str]) -> tuple[Path, str]:
    """The smallest form that the browser takes, and its encoding."""
    accepted = {
        name.partition(";")[0].strip()
        for name in headers.get("Accept-Encoding", "").lower().split(",")
        if not name.replace(" ", "").endswith(";q=0")
    }
    for encoding, suffix in (("br", ".br"), ("gzip", ".gz")):
        compressed = path.with_name(path.name + suffix)
        if encoding in accepted and compressed.is_file():
            return compressed, encoding
    return path, ""


def _with_code(text: str) -> str:
    parts = text.split("`")
    return "".join(
        f"<code>{part}</code>" if index % 2 else part
        for index, part in enumerate(parts)
    )
