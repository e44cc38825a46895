"""Chat requests to plain-HTTP experts of the same wire, served by callbacks inside the server."""
