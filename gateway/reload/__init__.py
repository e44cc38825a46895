"""Changing the configuration of a running gateway."""
