"""A proxy in front of an MCP server, for clients that can't be changed (docs/mcp.md)."""
