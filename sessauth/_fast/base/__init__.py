"""Texts, addresses, memory and limits for the rest of the kernel."""
