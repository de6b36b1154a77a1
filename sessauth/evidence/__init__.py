"""Evidence packs: one file for an auditor, and its verification without a server."""
