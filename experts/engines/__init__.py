"""Local engines: processes that serve models on this machine, and who looks after them."""
