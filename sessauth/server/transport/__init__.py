"""Calls of gRPC on an event loop; no thread waits for their messages."""
