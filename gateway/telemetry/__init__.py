"""What can be seen of the gateway from outside: figures, traces, logs; and what must not be."""
