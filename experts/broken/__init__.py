"""Providers that are broken in every way we know of, for tests and trials."""
