"""Metrics of a verifier in a process of its own, for Prometheus (``pip install 'sessauth[metrics]'``)."""

from .collector import VerifierCollector

__all__ = ["VerifierCollector"]
