"""Protocol buffers, read and written in their one canonical form."""
