"""Records of decisions, from the check to the audit line."""
