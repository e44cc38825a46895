"""What was fitted, on disk: safetensors and JSON, known by hash. Never runs code."""
