"""Paths between peers, and the ways to find them."""
