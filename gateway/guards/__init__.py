"""Guards: what may not reach an expert, or not come back from one."""
