"""Engines that carry a cluster's log, each an implementation of ``state/replication/carrier.py``."""
