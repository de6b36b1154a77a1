"""Doors for gateways of others: an HTTP request becomes a call to judge, and a decision their answer."""
