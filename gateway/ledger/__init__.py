"""The append-only book of requests, decisions, attempts and outcomes."""
