"""Verifiers: judging in one's own process."""
