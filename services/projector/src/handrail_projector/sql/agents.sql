INSERT INTO agents (agent, kind, name, description, capabilities, organization_id, project_id, config, registered_at, history)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (agent) DO UPDATE SET
    kind = EXCLUDED.kind,
    name = EXCLUDED.name,
    description = EXCLUDED.description,
    capabilities = EXCLUDED.capabilities,
    organization_id = EXCLUDED.organization_id,
    project_id = EXCLUDED.project_id,
    config = EXCLUDED.config,
    registered_at = EXCLUDED.registered_at,
    history = EXCLUDED.history
