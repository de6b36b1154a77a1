"""The audit log, verified."""
