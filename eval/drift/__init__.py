"""Has the world moved since a router learned: what experts are worth, and what is asked."""
