"""Scores that the gateway gives by itself, after an answer has ended and never before."""
