"""A proxy in front of a server of MCP, for clients that are not to be changed (docs/mcp.md)."""
