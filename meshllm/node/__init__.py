"""A running node: who it is, whom it knows, and the ways to them, composed."""

from meshllm.node.node import Node
from meshllm.node.options import NodeOptions

__all__ = ["Node", "NodeOptions"]
