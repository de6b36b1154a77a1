"""The policy language: scopes, conditions, values and the arguments of calls."""
