"""Signatures and hashes of libsodium."""
