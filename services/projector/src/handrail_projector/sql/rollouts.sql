INSERT INTO rollouts (workflow_id, organization_id, project_id, stable, canary, percent, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (workflow_id) DO UPDATE SET
    organization_id = EXCLUDED.organization_id,
    project_id = EXCLUDED.project_id,
    stable = EXCLUDED.stable,
    canary = EXCLUDED.canary,
    percent = EXCLUDED.percent,
    updated_at = EXCLUDED.updated_at
