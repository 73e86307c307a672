"""The service desk: a workflow, its agents and its reviewers, made from a short description of tiers."""
