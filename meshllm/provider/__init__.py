"""Admit, queue, run against a backend, account."""
