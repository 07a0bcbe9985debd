"""What a provider answers, path by path; a path that is not here is 404.

Pure. The table is exact: no prefixes, no patterns, no trailing slash.
"""

from __future__ import annotations

from enum import Enum

from meshllm.errors import Code, NotAllowed


class Kind(Enum):
    ASK = "ask"  # runs a model: takes a slot, counts
    LOOK = "look"  # reads about models: takes none
    ADMIN = "admin"  # changes the model server: never for others, not yet for owners


ROUTES: dict[tuple[str, str], Kind] = {
    ("POST", "/api/chat"): Kind.ASK,
    ("POST", "/api/generate"): Kind.ASK,
    ("POST", "/api/embed"): Kind.ASK,
    ("POST", "/api/embeddings"): Kind.ASK,
    ("POST", "/api/show"): Kind.LOOK,
    ("GET", "/api/ps"): Kind.LOOK,
    ("POST", "/v1/chat/completions"): Kind.ASK,
    ("POST", "/v1/completions"): Kind.ASK,
    ("POST", "/v1/embeddings"): Kind.ASK,
    ("POST", "/v1/responses"): Kind.ASK,
    ("POST", "/v1/messages"): Kind.ASK,
    ("POST", "/api/pull"): Kind.ADMIN,
    ("POST", "/api/push"): Kind.ADMIN,
    ("POST", "/api/create"): Kind.ADMIN,
    ("POST", "/api/copy"): Kind.ADMIN,
    ("DELETE", "/api/delete"): Kind.ADMIN,
}


def kind_of(method: str, path: str) -> Kind | None:
    """None: a provider knows no such route."""
    return ROUTES.get((method, path))


def refuse_admin(path: str) -> NotAllowed:
    return NotAllowed(
        f"{path} changes the provider's own model server; only its owner does that.",
        Code.FORBIDDEN,
    )
