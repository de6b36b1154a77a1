"""What other libraries take for the nearest equal work: ``python -m benchmarks.peers``."""
