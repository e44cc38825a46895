"""From outcomes to a router, and from a router to one that knows more outcomes or experts."""
