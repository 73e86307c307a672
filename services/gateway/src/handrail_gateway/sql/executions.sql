-- name: execution
SELECT execution_id, workflow_id, workflow_version, user_id, session_id, status, trigger, input, context,
       attributes, parent_id, origin_id, result, error, started_at, completed_at, last_n
FROM executions
WHERE organization_id = $1 AND project_id = $2 AND execution_id = $3

-- name: execution_with_steps
SELECT e.execution_id, e.workflow_id, e.workflow_version, e.user_id, e.session_id, e.status, e.trigger, e.input,
       e.context, e.attributes, e.parent_id, e.origin_id, e.result, e.error, e.started_at, e.completed_at, e.last_n,
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
SELECT execution_id, workflow_id, workflow_version, user_id, session_id, status, attributes, parent_id, origin_id,
       started_at, completed_at
FROM executions
WHERE organization_id = $1 AND project_id = $2
  AND ($3::text IS NULL OR status = $3)
  AND ($4::timestamptz IS NULL OR (started_at <= $4 AND (started_at < $4 OR execution_id > $5::text)))
ORDER BY started_at DESC, execution_id
LIMIT $6

-- name: list_executions_of_workflow
SELECT execution_id, workflow_id, workflow_version, user_id, session_id, status, attributes, parent_id, origin_id,
       started_at, completed_at
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

-- name: model_calls
-- In the order in which they were recorded; a place is (event, number within it).
SELECT (e->>'n')::bigint AS n, c.number, h.at, e->>'step_id' AS step_id, (e->>'attempt')::int AS attempt, c.call::text AS call
FROM execution_history h
JOIN executions x USING (execution_id)
CROSS JOIN json_array_elements(h.events) e
CROSS JOIN json_array_elements(e->'calls') WITH ORDINALITY c (call, number)
WHERE x.organization_id = $1 AND x.project_id = $2 AND h.execution_id = $3 AND e->>'type' = 'step.models_called'
  AND ($4::bigint IS NULL OR ((e->>'n')::bigint, c.number) > ($4, $5::bigint))
ORDER BY 1, 2
LIMIT $6

-- name: model_calls_in_all
SELECT count(*) AS calls, coalesce(sum((call->>'input_tokens')::bigint), 0)::bigint AS input_tokens,
       coalesce(sum((call->>'output_tokens')::bigint), 0)::bigint AS output_tokens,
       sum((call->>'cost_usd')::double precision) AS cost_usd, coalesce(sum((call->>'seconds')::double precision), 0) AS seconds
FROM execution_history h
JOIN executions x USING (execution_id)
CROSS JOIN json_array_elements(h.events) e
CROSS JOIN json_array_elements(e->'calls') call
WHERE x.organization_id = $1 AND x.project_id = $2 AND h.execution_id = $3 AND e->>'type' = 'step.models_called'

-- name: search_executions
-- The list again, for whatever else is asked. A text is looked for in the input as it was written.
SELECT execution_id, workflow_id, workflow_version, user_id, session_id, status, attributes, parent_id, origin_id,
       started_at, completed_at
FROM executions
WHERE organization_id = $1 AND project_id = $2
  AND ($3::text IS NULL OR status = $3)
  AND ($4::timestamptz IS NULL OR (started_at <= $4 AND (started_at < $4 OR execution_id > $5::text)))
  AND ($7::text IS NULL OR workflow_id = $7)
  AND ($8::integer IS NULL OR workflow_version = $8)
  AND ($9::timestamptz IS NULL OR started_at >= $9)
  AND ($10::timestamptz IS NULL OR started_at < $10)
  AND ($11::text IS NULL OR strpos(lower(input::text), lower($11)) > 0)
  AND ($12::jsonb IS NULL OR attributes @> $12)
  AND ($13::text IS NULL OR session_id = $13)
  AND ($14::text IS NULL OR parent_id = $14)
  AND ($15::text IS NULL OR origin_id = $15)
  AND ($16::text[] IS NULL OR execution_id = ANY($16))
ORDER BY started_at DESC, execution_id
LIMIT $6

-- name: count_executions
SELECT count(*) AS count
FROM executions
WHERE organization_id = $1 AND project_id = $2
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR workflow_id = $4)
  AND ($5::integer IS NULL OR workflow_version = $5)
  AND ($6::timestamptz IS NULL OR started_at >= $6)
  AND ($7::timestamptz IS NULL OR started_at < $7)
  AND ($8::text IS NULL OR strpos(lower(input::text), lower($8)) > 0)
  AND ($9::jsonb IS NULL OR attributes @> $9)
  AND ($10::text IS NULL OR session_id = $10)
  AND ($11::text IS NULL OR parent_id = $11)
  AND ($12::text IS NULL OR origin_id = $12)
  AND ($13::text[] IS NULL OR execution_id = ANY($13))

-- name: records
SELECT h.first_n, h.last_n, h.at, h.source, h.events::text AS events
FROM execution_history h
JOIN executions e USING (execution_id)
WHERE e.organization_id = $1 AND e.project_id = $2 AND h.execution_id = $3
ORDER BY h.first_n

-- name: session_messages
-- What was said in a session, latest first.
SELECT e.input, e.result, e.started_at
FROM executions e
WHERE e.organization_id = $1 AND e.project_id = $2 AND e.workflow_id = $3 AND e.session_id = $4
  AND e.status = 'completed'
ORDER BY e.started_at DESC
LIMIT $5

-- name: count_pending
-- Of all tenants, counted no further than somebody cares.
SELECT count(*) AS count FROM (SELECT 1 FROM pending LIMIT $1) waiting
