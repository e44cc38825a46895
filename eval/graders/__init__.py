"""Checks that turn an answer into a score in [0, 1], or say that they can't."""
