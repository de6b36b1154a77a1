"""Audit streams, written."""
