"""Parts of the asyncio client that need tasks; ``_threads`` has their blocking counterparts."""
