-- name: ping
SELECT count(*) AS positions FROM positions

-- name: positions
SELECT topic, partition, next_offset, epoch, next_seq
FROM positions
WHERE topic = ANY($1::text[])

-- name: list_dead_letters
-- A letter belongs to the tenant of its execution; those that belong to none are the operator's (`handrail dlq`).
SELECT d.event_id, d.service, d.code, d.reason, d.topic, d.partition, d."offset", d.execution_id, d.occurred_at
FROM dead_letters d
JOIN executions e USING (execution_id)
WHERE e.organization_id = $1 AND e.project_id = $2
  AND ($3::timestamptz IS NULL OR d.occurred_at < $3 OR (d.occurred_at = $3 AND d.event_id > $4::text))
ORDER BY d.occurred_at DESC, d.event_id
LIMIT $5
