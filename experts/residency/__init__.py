"""Which local experts are awake: what fits into fast memory, by what is asked for."""
