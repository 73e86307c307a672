"""The stateful machine: a pure core, driven over a journal partition by one shell, for scheduler and approvals alike."""
