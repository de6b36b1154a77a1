"""etcd as the carrier of the log."""
