"""Adapters for other gateways: they make a call of an HTTP request, and an answer of the decision."""
