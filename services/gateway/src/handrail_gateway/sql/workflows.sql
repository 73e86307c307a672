-- name: newest_workflow
SELECT w.workflow_id, w.version, w.name, w.definition, w.active, w.event_id, w.user_id,
       w.created_at AS updated_at,
       coalesce(first.created_at, w.created_at) AS created_at
FROM workflow_versions w
LEFT JOIN workflow_versions first ON first.workflow_id = w.workflow_id AND first.version = 1
WHERE w.organization_id = $1 AND w.project_id = $2 AND w.workflow_id = $3
ORDER BY w.version DESC
LIMIT 1

-- name: workflow_version
SELECT w.workflow_id, w.version, w.name, w.definition, w.active, w.event_id, w.user_id,
       w.created_at AS updated_at,
       coalesce(first.created_at, w.created_at) AS created_at
FROM workflow_versions w
LEFT JOIN workflow_versions first ON first.workflow_id = w.workflow_id AND first.version = 1
WHERE w.organization_id = $1 AND w.project_id = $2 AND w.workflow_id = $3 AND w.version = $4

-- name: workflow_version_by_event
SELECT version, definition, active
FROM workflow_versions
WHERE organization_id = $1 AND project_id = $2 AND workflow_id = $3 AND event_id = $4

-- name: list_workflows
SELECT w.workflow_id, w.version, w.name, w.active, w.description, w.updated_at,
       coalesce(first.created_at, w.updated_at) AS created_at
FROM (
    SELECT DISTINCT ON (workflow_id)
           workflow_id, version, name, active, created_at AS updated_at,
           coalesce(definition ->> 'description', '') AS description
    FROM workflow_versions
    WHERE organization_id = $1 AND project_id = $2
    ORDER BY workflow_id, version DESC
) w
LEFT JOIN workflow_versions first ON first.workflow_id = w.workflow_id AND first.version = 1
WHERE w.active
  AND ($3::timestamptz IS NULL OR w.updated_at < $3 OR (w.updated_at = $3 AND w.workflow_id > $4::text))
ORDER BY w.updated_at DESC, w.workflow_id
LIMIT $5

-- name: list_workflows_with_latest_execution
SELECT w.workflow_id, w.name, w.task_count, w.updated_at, latest.status
FROM (
    SELECT DISTINCT ON (workflow_id)
           workflow_id, name, active, created_at AS updated_at,
           CASE jsonb_typeof(definition -> 'tasks')
                WHEN 'array' THEN jsonb_array_length(definition -> 'tasks')
                ELSE CASE jsonb_typeof(definition -> 'steps')
                          WHEN 'array' THEN jsonb_array_length(definition -> 'steps') ELSE 0 END
           END AS task_count
    FROM workflow_versions
    WHERE organization_id = $1 AND project_id = $2
    ORDER BY workflow_id, version DESC
) w
LEFT JOIN LATERAL (
    SELECT e.status
    FROM executions e
    WHERE e.workflow_id = w.workflow_id AND e.organization_id = $1 AND e.project_id = $2
    ORDER BY e.started_at DESC, e.execution_id
    LIMIT 1
) latest ON true
WHERE w.active
  AND ($3::timestamptz IS NULL OR w.updated_at < $3 OR (w.updated_at = $3 AND w.workflow_id > $4::text))
ORDER BY w.updated_at DESC, w.workflow_id
LIMIT $5

-- name: list_versions
SELECT version, name, active, user_id AS saved_by, created_at AS saved_at
FROM workflow_versions
WHERE organization_id = $1 AND project_id = $2 AND workflow_id = $3 AND ($4::integer IS NULL OR version < $4)
ORDER BY version DESC
LIMIT $5

-- name: stats_by_status
SELECT status, count(*) AS count
FROM executions
WHERE organization_id = $1 AND project_id = $2 AND workflow_id = $3
GROUP BY status

-- name: stats_of_durations
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - started_at)) AS p50_seconds,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - started_at)) AS p95_seconds
FROM executions
WHERE organization_id = $1 AND project_id = $2 AND workflow_id = $3 AND status = 'completed'

-- name: stats_by_step
-- The turns of a loop together: each[3].review counts as each[].review.
SELECT regexp_replace(s.step_id, '\[\d+\]', '[]', 'g') AS step_id,
       count(*) FILTER (WHERE s.status = 'completed') AS completed,
       count(*) FILTER (WHERE s.status = 'failed') AS failed,
       count(*) FILTER (WHERE s.status = 'skipped') AS skipped,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM s.completed_at - s.started_at))
           FILTER (WHERE s.status = 'completed') AS p50_seconds,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM s.completed_at - s.started_at))
           FILTER (WHERE s.status = 'completed') AS p95_seconds
FROM executions e
JOIN steps s USING (execution_id)
WHERE e.organization_id = $1 AND e.project_id = $2 AND e.workflow_id = $3
GROUP BY 1
ORDER BY min(s.first_n), 1

-- name: newest_workflow_of_any
-- For webhooks, whose address proves what a token otherwise would.
SELECT workflow_id, version, definition, active, user_id, organization_id, project_id
FROM workflow_versions
WHERE workflow_id = $1
ORDER BY version DESC
LIMIT 1

-- name: rollout
SELECT stable, canary, percent, updated_at
FROM rollouts
WHERE organization_id = $1 AND project_id = $2 AND workflow_id = $3 AND canary IS NOT NULL

-- name: workflow_states
-- Of the latest execution of each; of one with more than a thousand steps, as the first thousand tell it.
SELECT w.workflow_id, e.status, p.steps, p.done, v.planned
FROM unnest($3::text[]) AS w (workflow_id)
CROSS JOIN LATERAL (
    SELECT x.status, x.execution_id, x.workflow_version
    FROM executions x
    WHERE x.workflow_id = w.workflow_id AND x.organization_id = $1 AND x.project_id = $2
    ORDER BY x.started_at DESC, x.execution_id
    LIMIT 1
) e
CROSS JOIN LATERAL (
    SELECT count(*) AS steps,
           coalesce(sum(CASE WHEN s.status IN ('completed', 'failed', 'skipped', 'cancelled') THEN 100
                             ELSE coalesce(t.progress, 0) END), 0)::bigint AS done
    FROM (SELECT execution_id, step_id, status FROM steps
          WHERE execution_id = e.execution_id AND e.status <> 'completed' LIMIT 1000) s
    LEFT JOIN tasks t USING (execution_id, step_id)
) p
LEFT JOIN LATERAL (
    SELECT CASE jsonb_typeof(d.definition -> 'tasks') WHEN 'array' THEN jsonb_array_length(d.definition -> 'tasks')
                ELSE CASE jsonb_typeof(d.definition -> 'steps') WHEN 'array' THEN jsonb_array_length(d.definition -> 'steps') END
           END AS planned
    FROM workflow_versions d
    WHERE d.workflow_id = w.workflow_id AND d.version = e.workflow_version AND d.organization_id = $1 AND d.project_id = $2
) v ON true
