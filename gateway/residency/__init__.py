"""Engines of our own, between the process that owns them and those that answer requests."""
