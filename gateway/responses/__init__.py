"""Keeps what the Responses API promises to remember."""
