"""Workflows from a sentence: a language model drafts, the compiler judges, and a person decides whether it is made.

`wording` says what the model is told, `asking` asks it, `drafts` reads what it says and believes none of it, `rounds` lets it
correct itself.
"""
