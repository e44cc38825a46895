"""Engines of our own: what an entry stands for, how they start, what their hours cost."""
