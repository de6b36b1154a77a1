"""The server's own log."""
