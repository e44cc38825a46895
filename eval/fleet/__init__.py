"""Which experts to host within a budget, and what that fleet is worth on held-out queries."""
