INSERT INTO workflow_versions (workflow_id, version, user_id, organization_id, project_id, name, definition, active,
                               event_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (workflow_id, version) DO NOTHING
