"""What comes of a case in the vectors: a result, or the code of its refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshllm.errors import Code, MeshError, NotAllowed, RemoteProtocolError


def outcome(act: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    try:
        return act(*given)
    except NotAllowed as error:
        code = error.code
    except RemoteProtocolError:
        code = Code.PROTOCOL
    except MeshError:
        code = Code.AUTH
    return {"code": code.name.lower()}
