"""The local HTTP front: Ollama routes, OpenAI routes."""
