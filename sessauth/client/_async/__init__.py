"""The asyncio client, and the source of the blocking one (``tools/generate_sync_client.py``)."""
