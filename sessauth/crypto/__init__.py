"""Keys and the text forms of tokens, keys and proofs."""
