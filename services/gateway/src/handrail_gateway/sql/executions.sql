-- name: execution
SELECT execution_id, workflow_id, workflow_version, user_id, session_id, status, trigger, input, context,
       result, error, started_at, completed_at, last_n
FROM executions
WHERE organization_id = $1 AND project_id = $2 AND execution_id = $3

-- name: execution_with_steps
SELECT e.execution_id, e.workflow_id, e.workflow_version, e.user_id, e.session_id, e.status, e.trigger, e.input,
       e.context, e.result, e.error, e.started_at, e.completed_at, e.last_n,
       coalesce((
           SELECT json_agg(json_build_object(
                      'step_id', s.step_id,
                      'step_type', s.step_type,
                      'status', s.status,
                      'agent', s.agent,
                      'attempt', s.attempt,
                      'waits_for', s.waits_for,
                      'started_at', to_char(s.started_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                      'completed_at', to_char(s.completed_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                      'wake_at', to_char(s.wake_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                      'deadline', to_char(s.deadline, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                      'input', s.input,
                      'result', s.output,
                      'error', s.error
                  ) ORDER BY s.first_n, s.step_id)
           FROM steps s
           WHERE s.execution_id = e.execution_id
       ), '[]'::json) AS steps
FROM executions e
WHERE e.organization_id = $1 AND e.project_id = $2 AND e.execution_id = $3

-- name: list_executions
SELECT execution_id, workflow_id, workflow_version, user_id, session_id, status, started_at, completed_at
FROM executions
WHERE organization_id = $1 AND project_id = $2
  AND ($3::text IS NULL OR status = $3)
  AND ($4::timestamptz IS NULL OR (started_at <= $4 AND (started_at < $4 OR execution_id > $5::text)))
ORDER BY started_at DESC, execution_id
LIMIT $6

-- name: list_executions_of_workflow
SELECT execution_id, workflow_id, workflow_version, user_id, session_id, status, started_at, completed_at
FROM executions
WHERE organization_id = $1 AND project_id = $2 AND workflow_id = $7
  AND ($3::text IS NULL OR status = $3)
  AND ($4::timestamptz IS NULL OR (started_at <= $4 AND (started_at < $4 OR execution_id > $5::text)))
ORDER BY started_at DESC, execution_id
LIMIT $6

-- name: latest_execution
SELECT execution_id, status, result
FROM executions
WHERE organization_id = $1 AND project_id = $2 AND workflow_id = $3
ORDER BY started_at DESC, execution_id
LIMIT 1

-- name: steps
SELECT s.step_id, s.step_type, s.status, s.agent, s.output
FROM steps s
JOIN executions e USING (execution_id)
WHERE e.organization_id = $1 AND e.project_id = $2 AND s.execution_id = $3
ORDER BY s.first_n, s.step_id

-- name: history
SELECT h.first_n, h.last_n, h.at, h.events::text AS events
FROM execution_history h
JOIN executions e USING (execution_id)
WHERE e.organization_id = $1 AND e.project_id = $2 AND h.execution_id = $3 AND h.last_n > $4::bigint
ORDER BY h.first_n
LIMIT $5
