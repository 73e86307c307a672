INSERT INTO dead_letters (event_id, service, code, reason, topic, partition, "offset", execution_id, occurred_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (event_id) DO NOTHING
