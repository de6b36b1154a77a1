"""Files that the processes of a host share beside the state."""
