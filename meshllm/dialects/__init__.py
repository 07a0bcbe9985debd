"""Pure: the Ollama and OpenAI APIs, their chunks, errors and translation."""
