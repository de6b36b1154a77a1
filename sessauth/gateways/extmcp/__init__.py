"""A policy server for agentgateway, which asks for each MCP message and for lists of tools."""
