"""Judges: how a model is asked for a score, how scores of pairs are read, and what they favour."""
