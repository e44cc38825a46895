"""Experts and compositions, built from their settings."""
