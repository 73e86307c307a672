-- name: list_suggestions
SELECT approval_id, execution_id, workflow_id, step_id, status, approvers, deadline, decided_by, comment, created_at,
       decided_at, suggestion, data
FROM approvals
WHERE organization_id = $1 AND project_id = $2 AND suggestion IS NOT NULL
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR execution_id = $4)
  AND ($5::text IS NULL OR suggestion ->> 'task_id' = $5)
  AND ($6::text IS NULL OR suggestion ->> 'agent' = $6)
  AND ($7::timestamptz IS NULL OR (created_at, approval_id) > ($7, $8::text))
ORDER BY created_at, approval_id
LIMIT $9

-- name: suggestion
SELECT a.approval_id, a.execution_id, a.workflow_id, a.step_id, a.status, a.approvers, a.deadline, a.decided_by, a.comment,
       a.created_at, a.decided_at, a.suggestion, a.data,
       coalesce((
           SELECT json_agg(json_build_object(
                      'at', to_char(h.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                      'event', h.event
                  ) ORDER BY h.partition, h."offset", h.ordinal)
           FROM approval_history h
           WHERE h.approval_id = a.approval_id
       ), '[]'::json) AS history,
       (
           SELECT json_build_object('at', to_char(x.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'event', e)
           FROM execution_history x
           CROSS JOIN json_array_elements(x.events) e
           WHERE x.execution_id = a.execution_id
             AND e ->> 'type' = 'action.executed' AND e ->> 'suggestion_id' = a.approval_id
           LIMIT 1
       ) AS result
FROM approvals a
WHERE a.organization_id = $1 AND a.project_id = $2 AND a.approval_id = $3 AND a.suggestion IS NOT NULL
