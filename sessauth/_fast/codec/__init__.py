"""Protocol buffers in canonical form."""
