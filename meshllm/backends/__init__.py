"""The model servers that a provider can offer; `find.open_backend` picks one."""

from meshllm.backends.base import (
    Backend,
    BackendRequest,
    BackendResponse,
    Model,
    WholeResponse,
)

__all__ = ["Backend", "BackendRequest", "BackendResponse", "Model", "WholeResponse"]
