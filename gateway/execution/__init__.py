"""How a decision is carried out: attempts, limits, fallback, health, slots, mid-stream resume."""
