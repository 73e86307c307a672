-- name: list_tasks
-- Of the latest executions first, as they are in their workflow.
SELECT * FROM task_list t
WHERE organization_id = $1 AND project_id = $2
  AND ($3::text[] IS NULL OR step_status = ANY($3))
  AND ($4::text[] IS NULL OR workflow_id = ANY($4))
  AND ($5::text IS NULL OR execution_id = $5)
  AND ($6::text IS NULL OR agent_id = $6)
  AND ($7::text IS NULL OR priority = $7)
  AND ($8::boolean IS NULL OR overdue = $8)
  AND ($9::timestamptz IS NULL OR due_date < $9)
  AND ($10::timestamptz IS NULL OR (execution_started_at <= $10
       AND (execution_started_at < $10 OR (execution_id, first_n, step_id) > ($11::text, $12::integer, $13::text))))
ORDER BY execution_started_at DESC, execution_id, first_n, step_id
LIMIT $14

-- name: list_tasks_at_work
-- The same of one agent, of what it is to do now: agents that fetch their work ask this every few seconds.
SELECT t.* FROM agent_work w JOIN task_list t USING (execution_id, step_id)
WHERE w.organization_id = $1 AND w.project_id = $2 AND w.agent = $6 AND t.organization_id = $1 AND t.project_id = $2
  AND ($3::text[] IS NULL OR t.step_status = ANY($3))
  AND ($4::text[] IS NULL OR t.workflow_id = ANY($4))
  AND ($5::text IS NULL OR t.execution_id = $5)
  AND ($7::text IS NULL OR t.priority = $7)
  AND ($8::boolean IS NULL OR t.overdue = $8)
  AND ($9::timestamptz IS NULL OR t.due_date < $9)
  AND ($10::timestamptz IS NULL OR (t.execution_started_at <= $10
       AND (t.execution_started_at < $10 OR (t.execution_id, t.first_n, t.step_id) > ($11::text, $12::integer, $13::text))))
ORDER BY t.execution_started_at DESC, t.execution_id, t.first_n, t.step_id
LIMIT $14

-- name: task
-- By the id that it was posted with, else by that of its step run; of two of one id the older.
SELECT * FROM task_list
WHERE organization_id = $1 AND project_id = $2
  AND (execution_id, step_id) IN (SELECT execution_id, step_id FROM tasks WHERE task_id = $3
                                  UNION ALL SELECT execution_id, step_id FROM steps WHERE run_id = $3)
ORDER BY execution_started_at, execution_id
LIMIT 1

-- name: posted_tasks
SELECT id, execution_id, step_id FROM task_list
WHERE organization_id = $1 AND project_id = $2
  AND (execution_id, step_id) IN (SELECT execution_id, step_id FROM tasks WHERE task_id = ANY($3::text[]))

-- name: tasks_of_execution
SELECT * FROM task_list
WHERE organization_id = $1 AND project_id = $2 AND execution_id = $3
ORDER BY first_n, step_id

-- name: requests_journaled
-- How many of these wishes have counted.
SELECT count(DISTINCT e ->> 'request_id') AS count
FROM execution_history h
JOIN executions x USING (execution_id)
CROSS JOIN json_array_elements(h.events) e
WHERE x.organization_id = $1 AND x.project_id = $2 AND h.execution_id = $3 AND h.source = 'execution.controlled'
  AND e ->> 'request_id' = ANY($4::text[])

-- name: agent_kind
SELECT kind FROM agents WHERE agent = $3 AND ((organization_id = $1 AND project_id = $2) OR organization_id = '')

-- name: list_task_comments
-- Remarks on the task, and what was said at its suggestions; oldest first.
SELECT * FROM (
    SELECT c.comment_id AS id, c.author_id, c.author_type, c.author_name, c.text, c.created_at
    FROM task_comments c
    WHERE c.organization_id = $1 AND c.project_id = $2 AND c.execution_id = $3 AND c.step_id = $4
    UNION ALL
    SELECT h.event ->> 'comment_id', h.event ->> 'author', coalesce(h.event ->> 'author_type', 'human'), '', h.event ->> 'text', h.at
    FROM approvals a JOIN approval_history h USING (approval_id)
    WHERE a.organization_id = $1 AND a.project_id = $2 AND a.execution_id = $3 AND a.step_id = $4 AND a.suggestion IS NOT NULL
      AND h.event ->> 'type' = 'approval.commented'
) said
WHERE $5::timestamptz IS NULL OR (created_at, id) > ($5, $6::text)
ORDER BY created_at, id
LIMIT $7
