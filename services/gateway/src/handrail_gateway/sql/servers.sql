-- name: list_tools
-- Those of a server that was removed are withdrawn by a runner, sooner or later.
SELECT t.name, t.description, t.config -> 'parameters' AS parameters, t.config ->> 'server' AS server,
       t.config ->> 'disabled' AS disabled
FROM agents t
WHERE t.kind = 'tool' AND ((t.organization_id = $1 AND t.project_id = $2) OR t.organization_id = '')
  AND (t.config -> 'server' IS NULL OR EXISTS (
      SELECT FROM agents s
      WHERE s.agent = 'mcp/' || (t.config ->> 'server')
        AND s.organization_id = t.organization_id AND s.project_id = t.project_id
  ))
ORDER BY t.name

-- name: count_servers
SELECT count(*) AS servers FROM agents WHERE organization_id = $1 AND project_id = $2 AND kind = 'mcp' AND agent <> $3

-- name: list_servers
-- What a runner says of an earlier registration does not count. A platform's server shows no more of itself than its tools.
SELECT substr(s.agent, 5) AS name, s.name AS title, s.description, s.registered_at, s.organization_id = '' AS shared,
       CASE WHEN s.organization_id = '' THEN '{}'::jsonb ELSE s.config END AS config,
       h.config AS state,
       coalesce((
           SELECT json_agg(json_build_object(
                      'name', t.name,
                      'description', t.description,
                      'parameters', t.config -> 'parameters',
                      'server', t.config ->> 'server',
                      'disabled', t.config ->> 'disabled'
                  ) ORDER BY t.name)
           FROM agents t
           WHERE t.kind = 'tool' AND t.config ->> 'server' = substr(s.agent, 5)
             AND t.organization_id = s.organization_id AND t.project_id = s.project_id
       ), '[]'::json) AS tools
FROM agents s
LEFT JOIN agents h ON h.agent = 'mcp_state/' || substr(s.agent, 5)
    AND (h.config ->> 'registered_at')::timestamptz = s.registered_at
WHERE s.kind = 'mcp' AND ((s.organization_id = $1 AND s.project_id = $2) OR s.organization_id = '')
  AND ($3::text IS NULL OR s.agent > 'mcp/' || $3) AND ($4::text IS NULL OR s.agent = 'mcp/' || $4)
ORDER BY s.agent
LIMIT $5
