"""A real broker and a real database from wheels and jars: what a laptop with only Python runs."""


class EmbeddedError(Exception):
    """One sentence on what is wrong and one on what to do."""
