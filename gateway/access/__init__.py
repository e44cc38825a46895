"""Who may call, what for, how often and for how many dollars."""
