"""The page at `/`: server-rendered, reads the ledger, writes nothing."""
