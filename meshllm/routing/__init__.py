"""Roster, choice of a provider, sessions kept warm."""
