"""The nonce table of a host, which makes a proof count once."""
