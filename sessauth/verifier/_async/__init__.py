"""The calls of a verifier with a server."""
