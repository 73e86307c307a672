-- name: generation_resources
SELECT agent, kind, name, description, capabilities,
       CASE WHEN kind = 'tool' THEN config -> 'parameters' END AS parameters
FROM agents
WHERE ((organization_id = $1 AND project_id = $2) OR organization_id = '')
  AND kind <> 'mcp_state' AND config ->> 'disabled' IS NULL
  AND (config -> 'server' IS NULL OR EXISTS (SELECT FROM agents s WHERE s.agent = 'mcp/' || (agents.config ->> 'server')))
ORDER BY agent
LIMIT 5000

-- name: taken_agents
-- Names are the platform's: those of other tenants count, too.
SELECT agent FROM agents WHERE agent = ANY($1::text[])

-- name: taken_workflow_ids
SELECT DISTINCT definition ->> 'id' AS id
FROM workflow_versions
WHERE organization_id = $1 AND project_id = $2 AND definition ->> 'id' = ANY($3::text[])
