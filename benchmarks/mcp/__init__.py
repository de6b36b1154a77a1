"""Calls of a tool through the MCP SDK, with and without a guard."""
