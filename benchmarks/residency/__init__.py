"""Residency: what a planner of who is awake is worth beside simpler ones."""
