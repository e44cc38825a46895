"""Whether a trained router may serve: a gate before, and a test while a few requests go to it."""
