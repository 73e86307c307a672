"""Who calls, and what the caller may do: tokens, API keys, signatures, rights, rate limits."""
