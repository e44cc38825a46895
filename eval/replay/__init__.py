"""Ways of choosing experts, trained if need be and applied offline to recorded outcomes."""
