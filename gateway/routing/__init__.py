"""From names and wishes to one decision: the routers that serve, and their policies."""
