"""Anything that answers a chat request. Knows models, prices and wire formats; never decides who answers."""
