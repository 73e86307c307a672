INSERT INTO budgets (budget_id, scope, name, organization_id, project_id, limits, period, set_by, removed, set_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (budget_id) DO UPDATE SET
    limits = EXCLUDED.limits,
    period = EXCLUDED.period,
    set_by = EXCLUDED.set_by,
    removed = EXCLUDED.removed,
    set_at = EXCLUDED.set_at
