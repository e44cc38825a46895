"""The expert that works out arithmetic and units exactly, without any model."""
