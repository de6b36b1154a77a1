"""Calls on gRPC's core: accepted, their message waited for in no thread, answered."""
