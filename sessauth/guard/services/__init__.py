"""Calls of one's own services: requests of their protocols as action, resource and arguments."""
