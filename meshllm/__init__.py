"""meshllm: reach language models on your own and your friends' machines."""

__version__ = "0.1.0"
