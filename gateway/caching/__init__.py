"""Answers kept in memory, to be given again at no cost."""
