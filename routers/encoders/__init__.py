"""Text to vectors: encoders that are fitted on outcomes, and those trained elsewhere."""
