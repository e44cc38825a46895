"""Experts behind URLs: connections, endpoints that serve the same model, and who is left alone."""
