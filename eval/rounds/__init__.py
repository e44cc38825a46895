"""A small world in which a model can learn to drive rounds within minutes, and its measures."""
