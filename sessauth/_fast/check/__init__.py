"""The check: stages, caches, batches and decisions."""
