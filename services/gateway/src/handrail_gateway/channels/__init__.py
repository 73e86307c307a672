"""`/ws`: what changes, told as it changes. docs/guides/live.md shows it to clients, ADR 0022 says why it is so."""
