"""Verifiers: checks in one's own process."""
