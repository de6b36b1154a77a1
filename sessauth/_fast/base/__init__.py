"""Texts, addresses, memory and limits: what the rest of the kernel stands on."""
