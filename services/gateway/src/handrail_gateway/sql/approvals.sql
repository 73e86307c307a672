-- name: approval
SELECT approval_id, execution_id, workflow_id, step_id, status, approvers, message, show, deadline, submission_id,
       decided_by, comment, created_at, decided_at, priority, assignee, digest, rules, level, user_id,
       suggestion IS NOT NULL AS is_suggestion
FROM approvals
WHERE organization_id = $1 AND project_id = $2 AND approval_id = $3

-- name: approval_with_history
SELECT a.approval_id, a.execution_id, a.workflow_id, a.step_id, a.status, a.approvers, a.message, a.show, a.deadline,
       a.decided_by, a.comment, a.created_at, a.decided_at, a.priority, a.assignee, a.digest, a.rules, a.level,
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
-- $6: only those that this person is asked about now.
SELECT approval_id, execution_id, workflow_id, step_id, status, approvers, message, show, deadline,
       decided_by, comment, created_at, decided_at, priority, assignee, digest, rules, level
FROM approvals
WHERE organization_id = $1 AND project_id = $2
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR execution_id = $4)
  AND ($5::text IS NULL OR assignee = $5)
  AND ($6::text IS NULL OR assignee = $6 OR (assignee = '' AND (approvers = '{}' OR $6 = ANY (approvers))))
  AND ($7::timestamptz IS NULL OR (created_at, approval_id) > ($7, $8::text))
ORDER BY created_at, approval_id
LIMIT $9

-- name: list_approvals_by_priority
SELECT approval_id, execution_id, workflow_id, step_id, status, approvers, message, show, deadline,
       decided_by, comment, created_at, decided_at, priority, assignee, digest, rules, level
FROM approvals
WHERE organization_id = $1 AND project_id = $2
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR execution_id = $4)
  AND ($5::text IS NULL OR assignee = $5)
  AND ($6::text IS NULL OR assignee = $6 OR (assignee = '' AND (approvers = '{}' OR $6 = ANY (approvers))))
  AND ($7::int IS NULL OR (-priority, created_at, approval_id) > (-$7, $8::timestamptz, $9::text))
ORDER BY -priority, created_at, approval_id
LIMIT $10

-- name: submission
-- What became of a submission, or of a wish about who decides: the gate as it is, and what the journal says of it.
SELECT a.approval_id, a.execution_id, a.workflow_id, a.step_id, a.status, a.approvers, a.message, a.show, a.deadline,
       a.submission_id, a.decided_by, a.comment, a.created_at, a.decided_at, a.priority, a.assignee, a.digest, a.rules, a.level,
       (
           SELECT h.event
           FROM approval_history h
           WHERE h.approval_id = a.approval_id
             AND h.event ->> 'type' IN ('approval.voted', 'approval.refused', 'approval.handed')
             AND $4 IN (h.event ->> 'submission_id', h.event ->> 'request_id')
           LIMIT 1
       ) AS word
FROM approvals a
WHERE a.organization_id = $1 AND a.project_id = $2 AND a.approval_id = $3

-- name: comment
SELECT h.at
FROM approval_history h
JOIN approvals a USING (approval_id)
WHERE a.organization_id = $1 AND a.project_id = $2 AND a.approval_id = $3
  AND h.event ->> 'type' = 'approval.commented' AND h.event ->> 'comment_id' = $4
LIMIT 1

-- name: substituted
-- Whose substitute the caller is just now, of those who are asked.
SELECT r.reviewer_id
FROM reviewers r
CROSS JOIN json_array_elements(coalesce(r.reviewer -> 'absences', '[]')) a
WHERE r.organization_id = $1 AND r.project_id = $2 AND NOT r.removed
  AND r.reviewer_id = ANY ($4::text[]) AND a ->> 'substitute' = $3
  AND (a ->> 'start')::timestamptz <= $5 AND $5 < (a ->> 'end')::timestamptz
ORDER BY r.reviewer_id
LIMIT 1

-- name: audit_trail
-- Everything that happened at the tenant's gates, in the order of time.
SELECT h.at, h.partition, h."offset", h.ordinal, h.approval_id, a.execution_id, a.workflow_id, a.step_id, h.event, h.chain
FROM approval_history h
JOIN approvals a USING (approval_id)
WHERE a.organization_id = $1 AND a.project_id = $2
  AND ($3::timestamptz IS NULL OR h.at >= $3) AND ($4::timestamptz IS NULL OR h.at < $4)
  AND ($5::timestamptz IS NULL OR (h.at, h.partition, h."offset", h.ordinal) > ($5, $6::int, $7::bigint, $8::int))
ORDER BY h.at, h.partition, h."offset", h.ordinal
LIMIT $9

-- name: list_reviewers
SELECT r.reviewer_id, r.reviewer, r.updated_at,
       (SELECT count(*) FROM review_questions q
        WHERE q.pool_id = r.pool_id AND q.reviewer_id = r.reviewer_id AND NOT q.ended) AS load
FROM reviewers r
WHERE r.organization_id = $1 AND r.project_id = $2 AND NOT r.removed
  AND ($3::text IS NULL OR r.reviewer_id = $3)
  AND ($4::text IS NULL OR r.reviewer_id > $4)
ORDER BY r.reviewer_id
LIMIT $5
