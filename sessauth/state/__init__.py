"""State: the log, its writer, and the views that read it."""
