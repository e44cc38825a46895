"""What compositions would have led to, worked out from recorded answers of single experts."""
