UPDATE approvals SET suggestion = $2, show = $3, digest = $4 WHERE approval_id = $1
