"""Tokens: issued, held, attenuated and inspected."""
