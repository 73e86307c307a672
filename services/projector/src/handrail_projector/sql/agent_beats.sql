INSERT INTO agent_beats (agent, organization_id, project_id, status, every_seconds, at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (agent, organization_id, project_id) DO UPDATE SET
    status = EXCLUDED.status,
    every_seconds = EXCLUDED.every_seconds,
    at = EXCLUDED.at
