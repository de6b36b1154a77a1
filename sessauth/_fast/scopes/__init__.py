"""Scopes: evaluation, containment and implication."""
