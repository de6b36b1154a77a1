"""The interceptors of every call; ``server/rpc/pipeline.py`` has their order."""
