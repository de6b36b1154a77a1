"""Adapters for other gateways: an HTTP request becomes a call to check, and a decision their answer."""
