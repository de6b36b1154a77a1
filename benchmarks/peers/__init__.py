"""Times of other libraries for the nearest equal work: ``python -m benchmarks.peers``."""
