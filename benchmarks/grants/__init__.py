"""Suggested grants against honest sessions and attacks that the fit never saw."""
