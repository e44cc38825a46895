"""From new outcomes to a promoted router: fit, gate, shadow, trial, promotion. Beside serving."""
