"""What a comparison found, as files: figures, pictures and a self-contained page."""
