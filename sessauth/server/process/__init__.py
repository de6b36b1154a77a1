"""Processes: the control process, workers and their supervisor."""
