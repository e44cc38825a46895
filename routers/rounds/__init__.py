"""How a model learns to drive rounds: its reward, its traces, its training."""
