"""Descriptions of calls: requests, and the reading of their answers."""
