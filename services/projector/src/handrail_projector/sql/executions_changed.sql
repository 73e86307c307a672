UPDATE executions AS e SET
    status = coalesce(c.status, e.status),
    workflow_version = coalesce(c.workflow_version, e.workflow_version),
    last_n = c.last_n,
    result = coalesce(c.result, e.result),
    error = coalesce(c.error, e.error),
    completed_at = coalesce(c.completed_at, e.completed_at)
FROM unnest($1::text[], $2::text[], $3::int[], $4::json[], $5::json[], $6::timestamptz[], $7::int[])
     AS c (execution_id, status, last_n, result, error, completed_at, workflow_version)
WHERE e.execution_id = c.execution_id
