"""How good is an answer, a router, a trade-off. Always import from a submodule: `import eval` hides a builtin."""
