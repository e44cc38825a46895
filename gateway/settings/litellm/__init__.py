"""LiteLLM's configuration, understood as it is."""
