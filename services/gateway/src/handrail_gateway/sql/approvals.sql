-- name: approval
SELECT approval_id, execution_id, workflow_id, step_id, status, approvers, message, show, deadline, submission_id,
       decided_by, comment, created_at, decided_at, suggestion IS NOT NULL AS is_suggestion
FROM approvals
WHERE organization_id = $1 AND project_id = $2 AND approval_id = $3

-- name: approval_with_history
SELECT a.approval_id, a.execution_id, a.workflow_id, a.step_id, a.status, a.approvers, a.message, a.show, a.deadline,
       a.decided_by, a.comment, a.created_at, a.decided_at,
       coalesce((
           SELECT json_agg(json_build_object(
                      'at', to_char(h.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                      'event', h.event
                  ) ORDER BY h.partition, h."offset", h.ordinal)
           FROM approval_history h
           WHERE h.approval_id = a.approval_id
       ), '[]'::json) AS history
FROM approvals a
WHERE a.organization_id = $1 AND a.project_id = $2 AND a.approval_id = $3

-- name: list_approvals
SELECT approval_id, execution_id, workflow_id, step_id, status, approvers, message, show, deadline,
       decided_by, comment, created_at, decided_at
FROM approvals
WHERE organization_id = $1 AND project_id = $2
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR execution_id = $4)
  AND ($5::timestamptz IS NULL OR (created_at, approval_id) > ($5, $6::text))
ORDER BY created_at, approval_id
LIMIT $7

-- name: submission
-- What became of a submission: the gate as it is, and why the submission was refused if it was.
SELECT a.approval_id, a.execution_id, a.workflow_id, a.step_id, a.status, a.approvers, a.message, a.show, a.deadline,
       a.submission_id, a.decided_by, a.comment, a.created_at, a.decided_at,
       (
           SELECT h.event ->> 'reason'
           FROM approval_history h
           WHERE h.approval_id = a.approval_id
             AND h.event ->> 'type' = 'approval.refused' AND h.event ->> 'submission_id' = $4
           LIMIT 1
       ) AS refused
FROM approvals a
WHERE a.organization_id = $1 AND a.project_id = $2 AND a.approval_id = $3

-- name: comment
SELECT h.at
FROM approval_history h
JOIN approvals a USING (approval_id)
WHERE a.organization_id = $1 AND a.project_id = $2 AND a.approval_id = $3
  AND h.event ->> 'type' = 'approval.commented' AND h.event ->> 'comment_id' = $4
LIMIT 1
