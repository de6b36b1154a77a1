"""State: the log, what it writes, and the views that read it."""
