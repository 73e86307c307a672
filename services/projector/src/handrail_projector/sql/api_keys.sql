INSERT INTO api_keys (key_id, organization_id, project_id, name, roles, permissions, version, earlier_until, signs, made_by,
                      made_at, changed_by, changed_at, expires_at, revoked)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (key_id) DO UPDATE SET
    organization_id = EXCLUDED.organization_id,
    project_id = EXCLUDED.project_id,
    name = EXCLUDED.name,
    roles = EXCLUDED.roles,
    permissions = EXCLUDED.permissions,
    version = EXCLUDED.version,
    earlier_until = EXCLUDED.earlier_until,
    signs = EXCLUDED.signs,
    made_by = EXCLUDED.made_by,
    made_at = EXCLUDED.made_at,
    changed_by = EXCLUDED.changed_by,
    changed_at = EXCLUDED.changed_at,
    expires_at = EXCLUDED.expires_at,
    revoked = EXCLUDED.revoked
