UPDATE approvals SET suggestion = $2, show = $3 WHERE approval_id = $1
