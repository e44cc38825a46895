"""One policy per file: estimates and costs in, a distribution over experts out."""
