-- A gate of a suggestion knows what is suggested, and what a person made of it.
ALTER TABLE approvals ADD COLUMN suggestion json;
ALTER TABLE approvals ADD COLUMN data json;
CREATE INDEX suggestions_by_tenant ON approvals (organization_id, project_id, created_at, approval_id)
    WHERE suggestion IS NOT NULL;
