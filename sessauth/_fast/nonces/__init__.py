"""The table of nonces, shared by the processes of a host, that lets a proof count once."""
