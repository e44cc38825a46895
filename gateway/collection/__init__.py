"""Asking experts through the endpoint and booking their graded answers, to learn from."""
