"""A server as one of several: its part in the carried log, and what it hands on to the leader."""
