"""Errors of the runtime, sorted by what happens next."""


class RuntimeFault(Exception):
    """Base of everything the runtime raises on purpose."""


class Fenced(RuntimeFault):
    """Another owner has claimed, or our epoch was fenced, or a send has an unknown outcome: recover and claim again."""


class JournalRegressed(RuntimeFault):
    """The journal is shorter or younger than what was known of it: a person must look. Never reset by itself."""


class Unavailable(RuntimeFault):
    """The broker or the database does not answer; trying again later may help."""
