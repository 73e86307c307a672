"""Two workflows from end to end, for watching: content marketing, and customer support with a person at the rail."""
