UPDATE steps AS s SET
    status = c.status,
    output = coalesce(c.output, s.output),
    error = coalesce(c.error, s.error),
    completed_at = coalesce(c.completed_at, s.completed_at),
    wake_at = coalesce(c.wake_at, s.wake_at),
    agent = coalesce(c.agent, s.agent)
FROM unnest($1::text[], $2::text[], $3::text[], $4::json[], $5::json[], $6::timestamptz[], $7::timestamptz[], $8::text[])
     AS c (execution_id, step_id, status, output, error, completed_at, wake_at, agent)
WHERE s.execution_id = c.execution_id AND s.step_id = c.step_id
