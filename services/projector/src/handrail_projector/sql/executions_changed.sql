UPDATE executions AS e SET
    status = c.status,
    last_n = c.last_n,
    result = coalesce(c.result, e.result),
    error = coalesce(c.error, e.error),
    completed_at = coalesce(c.completed_at, e.completed_at)
FROM unnest($1::text[], $2::text[], $3::int[], $4::json[], $5::json[], $6::timestamptz[])
     AS c (execution_id, status, last_n, result, error, completed_at)
WHERE e.execution_id = c.execution_id
