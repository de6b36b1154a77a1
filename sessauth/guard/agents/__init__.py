"""Adapters for agent frameworks: each is one module, which only its framework's users import."""
