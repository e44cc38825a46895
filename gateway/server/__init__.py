"""The process towards the network: sockets, connections, bodies, and what each may cost."""
