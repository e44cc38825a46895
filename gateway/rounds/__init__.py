"""Training of drivers of rounds: the pool behind an endpoint, traces from the ledger."""
