"""Servers of tools that speak MCP. The SDK is imported when the first of them is connected to."""
