"""A server as one of several: its part in the carried log, and the calls it forwards to the leader."""
