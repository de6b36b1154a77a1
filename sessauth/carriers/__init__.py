"""Engines that carry a cluster's log, each behind the port of ``state/replication/carrier.py``."""
