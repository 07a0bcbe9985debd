"""The local HTTP front: the mesh as Ollama and as OpenAI."""

from meshllm.gateway.access import PageAccess
from meshllm.gateway.options import Options, read_options
from meshllm.gateway.server import Gateway

__all__ = ["Gateway", "Options", "PageAccess", "read_options"]
