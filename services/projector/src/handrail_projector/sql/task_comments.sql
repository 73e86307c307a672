INSERT INTO task_comments (comment_id, organization_id, project_id, execution_id, step_id, task_id, author_id, author_type,
                           author_name, text, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (comment_id) DO NOTHING
