"""Who embeds what: one vector space per index."""
