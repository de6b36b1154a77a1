"""Records of decisions, from check to audit line."""
