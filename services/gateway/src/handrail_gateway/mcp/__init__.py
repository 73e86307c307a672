"""The platform as an MCP server. `server` and what it imports cost half a second: only `door` is imported at the start."""
