"""Multi-round: a chat model thinks, asks other experts, reads what they say, and answers."""
