"""Embedders that differ, and texts of domains that differ, for a comparison of routing them."""
