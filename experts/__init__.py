"""Anything that answers a chat request: models, engines, compositions. Never decides who does."""
