"""Admit a request: serve, challenge, wait or refuse."""
