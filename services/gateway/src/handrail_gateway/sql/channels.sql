-- name: channel_owners
-- Of all tenants: whose executions these are.
SELECT execution_id, organization_id, project_id FROM executions WHERE execution_id = ANY($1::text[])

-- name: channel_executions
SELECT execution_id, workflow_id, workflow_version, status, attributes ->> 'customer_id' AS customer_id
FROM executions
WHERE organization_id = $1 AND project_id = $2 AND execution_id = ANY($3::text[])

-- name: channel_steps
-- `task_id` only of those that people see as tasks.
SELECT s.execution_id, s.step_id, s.status, d.progress,
       CASE WHEN coalesce(d.assignee, '') <> '' THEN NULL ELSE coalesce(s.agent, d.agent) END AS agent,
       CASE WHEN s.step_type IN ('agent_execution', 'tool_call') OR d.step_id IS NOT NULL
            THEN coalesce(d.task_id, nullif(s.run_id, ''), d.run_id) END AS task_id
FROM unnest($3::text[], $4::text[]) AS wanted (execution_id, step_id)
JOIN steps s USING (execution_id, step_id)
JOIN executions e USING (execution_id)
LEFT JOIN tasks d USING (execution_id, step_id)
WHERE e.organization_id = $1 AND e.project_id = $2
ORDER BY s.execution_id, s.first_n, s.step_id

-- name: channel_work
-- Who is asked in these executions, by one run each.
SELECT DISTINCT ON (execution_id, agent) execution_id, agent, run_id
FROM agent_work
WHERE organization_id = $1 AND project_id = $2 AND execution_id = ANY($3::text[])
ORDER BY execution_id, agent, started_at DESC

-- name: channel_gates
SELECT approval_id, execution_id, workflow_id, step_id, status, approvers, message, show, deadline, decided_by, comment,
       created_at, decided_at, suggestion, assignee, digest, priority, rules, level
FROM approvals
WHERE organization_id = $1 AND project_id = $2 AND approval_id = ANY($3::text[])
ORDER BY created_at, approval_id
