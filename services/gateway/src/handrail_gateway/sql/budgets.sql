-- name: list_budgets
-- With what was used of each in its period, and what attempts have open.
SELECT b.budget_id, b.scope, b.name, b.limits, b.period, b.set_by, b.set_at, u.*
FROM budgets b
CROSS JOIN LATERAL (
    SELECT coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(cost_usd), 0) AS cost_usd,
           coalesce(sum(calls), 0)::bigint AS calls, coalesce(sum(seconds), 0) AS seconds,
           count(*) FILTER (WHERE state = 'open') AS open, count(*) FILTER (WHERE state = 'waits') AS waiting
    FROM budget_uses
    WHERE budget_id = b.budget_id
      AND (b.period = 'total' OR state <> 'settled' OR at >= date_trunc(b.period, $6::timestamptz AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')
) u
WHERE b.organization_id = $1 AND b.project_id = $2 AND NOT b.removed
  AND ($3::text IS NULL OR b.budget_id = $3)
  AND ($4::text IS NULL OR (b.scope, b.name) > ($4, $5::text))
ORDER BY b.scope, b.name
LIMIT $7

-- name: budget_use
-- Attempts that are open or wait, the oldest first.
SELECT requester_id AS execution_id, step_id, run_id, attempt, state, allowance, reason, at AS since
FROM budget_uses
WHERE budget_id = $1 AND state <> 'settled'
ORDER BY at, requester_id, run_id
LIMIT 200
