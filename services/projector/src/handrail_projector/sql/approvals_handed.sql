UPDATE approvals SET approvers = $2, assignee = $3, level = $4 WHERE approval_id = $1
