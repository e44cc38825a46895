"""The demo: prompts with checkable answers, and the run that learns from them."""
