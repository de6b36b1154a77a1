"""The rules by which changes apply to the state."""
