"""Requests and their results, for both clients."""
