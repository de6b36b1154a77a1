"""Writing audit streams."""
