"""Approvals: requested, shown to a person and signed."""
