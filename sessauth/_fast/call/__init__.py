"""The call under check: action, resource and arguments."""
