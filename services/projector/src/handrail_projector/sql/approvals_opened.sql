INSERT INTO approvals (approval_id, execution_id, workflow_id, step_id, user_id, organization_id, project_id, status,
                       approvers, message, show, deadline, created_at, suggestion, priority, rules, digest)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (approval_id) DO NOTHING
