"""What every call passes, one file each; the order is in ``server/rpc/pipeline.py``."""
