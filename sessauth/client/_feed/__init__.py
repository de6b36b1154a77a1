"""The carried log of a cluster, from its servers."""
