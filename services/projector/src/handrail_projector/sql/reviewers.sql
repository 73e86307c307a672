INSERT INTO reviewers (pool_id, reviewer_id, organization_id, project_id, reviewer, removed, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (pool_id, reviewer_id) DO UPDATE SET
    reviewer = EXCLUDED.reviewer, removed = EXCLUDED.removed, updated_at = EXCLUDED.updated_at
