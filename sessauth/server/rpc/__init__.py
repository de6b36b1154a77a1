"""The interceptors of every call, one file each; ``server/rpc/pipeline.py`` has their order."""
