"""Workflows as agents of the A2A protocol: a card for each, and an execution for each task."""
