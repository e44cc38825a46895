"""Experts that answer by asking others: each one is an expert itself, so they nest."""
