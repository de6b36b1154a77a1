"""Parts of the blocking client that need threads; ``_tasks`` has their asyncio counterparts."""
