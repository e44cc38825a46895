"""The process: HTTP, keys, a request's trip, the ledger, the dashboard, the command line."""
