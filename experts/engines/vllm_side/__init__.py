"""Code that runs inside a vLLM server, in its own environment: nothing of ours can be imported."""
