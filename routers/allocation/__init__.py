"""Choosing several experts at once: for a batch, a mixture, a new task, or a budget."""
