"""The writer of the state: groups, commits and queries."""
