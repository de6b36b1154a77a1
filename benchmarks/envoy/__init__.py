"""Envoy with and without the authorizer."""
