-- What a word of the batch leaves out stays as it was.
INSERT INTO tasks (execution_id, step_id, task_id, run_id, name, description, agent, assignee, priority, due_date, overdue, progress,
                   depends_on, metadata, brought)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (execution_id, step_id) DO UPDATE SET
    task_id = coalesce(EXCLUDED.task_id, tasks.task_id),
    run_id = coalesce(EXCLUDED.run_id, tasks.run_id),
    name = coalesce(EXCLUDED.name, tasks.name),
    description = coalesce(EXCLUDED.description, tasks.description),
    agent = coalesce(EXCLUDED.agent, tasks.agent),
    assignee = coalesce(EXCLUDED.assignee, tasks.assignee),
    priority = coalesce(EXCLUDED.priority, tasks.priority),
    due_date = coalesce(EXCLUDED.due_date, tasks.due_date),
    overdue = coalesce(EXCLUDED.overdue, tasks.overdue),
    progress = coalesce(EXCLUDED.progress, tasks.progress),
    depends_on = coalesce(EXCLUDED.depends_on, tasks.depends_on),
    metadata = coalesce(EXCLUDED.metadata, tasks.metadata),
    brought = coalesce(EXCLUDED.brought, tasks.brought)
