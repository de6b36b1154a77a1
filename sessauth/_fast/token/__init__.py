"""Tokens: chains, blocks, conditions and proofs as bytes."""
