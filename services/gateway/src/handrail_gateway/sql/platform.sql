-- name: ping
SELECT count(*) AS positions FROM positions

-- name: positions
SELECT topic, partition, next_offset, epoch, next_seq
FROM positions
WHERE topic = ANY($1::text[])

-- name: known_agents
-- Agents of the platform itself belong to no organization and may be used by all.
SELECT agent
FROM agents
WHERE (organization_id = $1 AND project_id = $2) OR organization_id = ''

-- name: agent_owner
SELECT organization_id, project_id FROM agents WHERE agent = $1

-- name: agent
SELECT agent, kind, name, description, capabilities, registered_at, organization_id = '' AS shared,
       CASE WHEN organization_id = '' THEN '{}'::jsonb ELSE config END AS config
FROM agents
WHERE agent = $3 AND ((organization_id = $1 AND project_id = $2) OR organization_id = '')

-- name: list_agents
SELECT agent, kind, name, description, capabilities, registered_at, organization_id = '' AS shared
FROM agents
WHERE ((organization_id = $1 AND project_id = $2) OR organization_id = '')
  AND kind <> 'tool' AND ($3::text IS NULL OR agent > $3)
ORDER BY agent
LIMIT $4

-- name: list_dead_letters
-- A letter belongs to the tenant of its execution; those that belong to none are the operator's (`handrail dlq`).
SELECT d.event_id, d.service, d.code, d.reason, d.topic, d.partition, d."offset", d.execution_id, d.occurred_at
FROM dead_letters d
JOIN executions e USING (execution_id)
WHERE e.organization_id = $1 AND e.project_id = $2
  AND ($3::timestamptz IS NULL OR d.occurred_at < $3 OR (d.occurred_at = $3 AND d.event_id > $4::text))
ORDER BY d.occurred_at DESC, d.event_id
LIMIT $5

-- name: list_tools
SELECT name, description, config -> 'parameters' AS parameters
FROM agents
WHERE kind = 'tool'
ORDER BY name
