"""Keys, credentials, certificates and identities."""
