"""Typed settings: one YAML file, frozen, every key checked, defaults in the classes."""
