"""How good is an answer, a router, a trade-off. Import from submodules: eval hides a builtin."""
