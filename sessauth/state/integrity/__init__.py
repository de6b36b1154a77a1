"""Proofs that the state is whole and the latest."""
