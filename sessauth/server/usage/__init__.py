"""Usage of sessions, kept and reported."""
