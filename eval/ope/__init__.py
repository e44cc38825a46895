"""Off-policy evaluation: what a router would have been worth, read off what others did."""
