"""Is a draft good enough? Signals say how good it seems, gates what follows from that."""
