"""Tables of outcomes, in and out: files, prices, and what to learn from and judge by."""
