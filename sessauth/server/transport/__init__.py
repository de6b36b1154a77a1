"""Calls on gRPC's core; no thread waits for their messages."""
