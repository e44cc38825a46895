"""Cascade routing: after each answer, who is asked next, or which answer is given."""
