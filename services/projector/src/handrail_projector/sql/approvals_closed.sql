UPDATE approvals SET status = $2, submission_id = $3, decided_by = $4, comment = $5, decided_at = $6, data = $7
WHERE approval_id = $1
