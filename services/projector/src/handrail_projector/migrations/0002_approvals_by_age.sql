CREATE INDEX approvals_by_age ON approvals (organization_id, project_id, created_at, approval_id);
