"""The model servers that a provider can offer."""
