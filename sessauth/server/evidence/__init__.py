"""Receipts, and the verifiers that are registered for them."""
