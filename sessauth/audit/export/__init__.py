"""The audit log in the formats of other systems."""
