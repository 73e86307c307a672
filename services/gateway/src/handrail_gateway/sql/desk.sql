-- name: desk_inquiries
-- Latest first; $4: by customer, $5: by id, $6: only these statuses of executions.
SELECT e.execution_id, e.workflow_version, e.status, e.input, e.result, e.error, e.started_at, e.completed_at,
       coalesce((
           SELECT json_agg(json_build_object('step_id', s.step_id, 'status', s.status, 'agent', s.agent,
                      'completed_at', to_char(s.completed_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) ORDER BY s.first_n)
           FROM steps s
           WHERE s.execution_id = e.execution_id AND (s.step_id LIKE 'tier\_%' OR s.step_id = 'person')
       ), '[]'::json) AS steps
FROM executions e
WHERE e.organization_id = $1 AND e.project_id = $2 AND e.workflow_id = $3
  AND ($4::jsonb IS NULL OR e.attributes @> $4)
  AND ($5::text IS NULL OR e.execution_id = $5)
  AND ($6::text[] IS NULL OR e.status = ANY ($6))
  AND ($7::timestamptz IS NULL OR (e.started_at <= $7 AND (e.started_at < $7 OR e.execution_id > $8::text)))
ORDER BY e.started_at DESC, e.execution_id
LIMIT $9

-- name: desk_escalations
SELECT approval_id, execution_id, workflow_id, step_id, status, approvers, message, show, deadline,
       decided_by, comment, created_at, decided_at, priority, assignee, digest, rules, level
FROM approvals
WHERE organization_id = $1 AND project_id = $2 AND workflow_id = $3
  AND ($4::text IS NULL OR status = $4)
  AND ($5::int IS NULL OR (-priority, created_at, approval_id) > (-$5, $6::timestamptz, $7::text))
ORDER BY -priority, created_at, approval_id
LIMIT $8

-- name: desk_loads
SELECT s.agent, count(*) FILTER (WHERE s.status = 'running') AS open, count(*) FILTER (WHERE s.status = 'completed') AS answered,
       avg(extract(epoch FROM s.completed_at - s.started_at)) FILTER (WHERE s.status = 'completed')::float8 AS seconds
FROM executions e
JOIN steps s USING (execution_id)
WHERE e.organization_id = $1 AND e.project_id = $2 AND e.workflow_id = $3 AND s.step_id LIKE 'tier\_%' AND s.agent <> ''
GROUP BY s.agent

-- name: desk_counts
SELECT count(*) FILTER (WHERE e.status IN ('pending', 'queued', 'running', 'paused')) AS open,
       count(*) FILTER (WHERE e.status = 'waiting') AS waiting,
       count(*) FILTER (WHERE e.status = 'completed') AS answered,
       count(*) FILTER (WHERE e.status IN ('failed', 'timeout', 'cancelled', 'compensating')) AS failed,
       count(*) FILTER (WHERE EXISTS (
           SELECT FROM steps s WHERE s.execution_id = e.execution_id AND s.step_id IN ('tier_2', 'person')
             AND s.status <> 'skipped')) AS escalated,
       count(*) FILTER (WHERE coalesce(e.completed_at, $4) > e.started_at + make_interval(secs => $5)) AS breached
FROM executions e
WHERE e.organization_id = $1 AND e.project_id = $2 AND e.workflow_id = $3
