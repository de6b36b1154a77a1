"""Streams that a client holds open."""
