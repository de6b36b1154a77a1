"""The nonce table of a host, by which a proof counts once."""
