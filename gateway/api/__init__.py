"""Wire formats: HTTP bodies in, records out, and back."""
