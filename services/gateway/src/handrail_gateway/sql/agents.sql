-- name: known_agents
-- Agents of the platform itself belong to no organization and may be used by all.
SELECT agent, capabilities
FROM agents
WHERE ((organization_id = $1 AND project_id = $2) OR organization_id = '') AND kind NOT IN ('mcp', 'mcp_state')
  AND (config -> 'server' IS NULL OR EXISTS (SELECT FROM agents s WHERE s.agent = 'mcp/' || (agents.config ->> 'server')))

-- name: agent_owner
SELECT organization_id, project_id FROM agents WHERE agent = $1

-- name: agents
-- By name; $4 are those that are wanted, $5 where the last page ended. $3 is now: a runner that has missed three of its beats
-- is gone; so is an agent of its own that has. Figures and work are the tenant's own, also those of an agent that it shares.
-- An agent is offline if no runner that
-- lives would ask it; of several breakers the one that keeps it out longest is shown.
WITH alive AS (
    SELECT r.agents, r.chosen
    FROM runners r
    WHERE r.at > $3::timestamptz - make_interval(secs => 3 * r.every_seconds + 1)
),
ailing AS (
    SELECT x.agent, max(x.error) AS problem, count(*) FILTER (WHERE x.error <> '' OR x.breaker->>'state' = 'open') AS runners,
           (array_agg(x.breaker ORDER BY x.breaker->>'state' DESC, x.breaker->>'retry_at' DESC)
               FILTER (WHERE x.breaker IS NOT NULL))[1] AS breaker
    FROM alive, jsonb_to_recordset(alive.agents) AS x (agent text, breaker jsonb, error text)
    GROUP BY x.agent
),
found AS (
    SELECT a.*, i.problem, i.breaker, w.run_id AS current_task_id,
           b.at AS beat_at,
           CASE WHEN a.kind = 'external' AND (coalesce(b.status, 'offline') = 'offline'
                                              OR b.at < $3::timestamptz - make_interval(secs => 3 * b.every_seconds + 1))
                     THEN 'offline'
                WHEN a.kind = 'external' THEN CASE WHEN w.run_id IS NOT NULL THEN 'busy' ELSE b.status END
                WHEN coalesce(i.runners, 0) >= (SELECT count(*) FROM alive) THEN 'offline'
                WHEN w.run_id IS NOT NULL THEN 'busy'
                ELSE 'online' END AS status
    FROM agents a
    LEFT JOIN ailing i USING (agent)
    LEFT JOIN agent_beats b ON b.agent = a.agent AND b.organization_id = a.organization_id AND b.project_id = a.project_id
    LEFT JOIN LATERAL (
        (SELECT own.run_id, own.started_at
         FROM agent_work own
         WHERE own.organization_id = $1 AND own.project_id = $2 AND own.agent = a.agent
         ORDER BY own.started_at DESC, own.run_id
         LIMIT 1)
        UNION ALL
        (SELECT picked.run_id, picked.started_at
         FROM alive, jsonb_to_recordset(alive.chosen) AS c (agent text, execution_id text, step_id text)
         JOIN agent_work picked USING (execution_id, step_id)
         WHERE c.agent = a.agent AND picked.organization_id = $1 AND picked.project_id = $2)
        ORDER BY started_at DESC, run_id
        LIMIT 1
    ) w ON true
    WHERE ((a.organization_id = $1 AND a.project_id = $2) OR a.organization_id = '')
      AND a.kind NOT IN ('tool', 'mcp', 'mcp_state') AND ($4::text[] IS NULL OR a.agent = ANY($4)) AND ($5::text IS NULL OR a.agent > $5)
      AND ($7::text IS NULL OR a.kind = $7) AND ($8::text IS NULL OR $8 = ANY(a.capabilities))
)
SELECT o.agent, o.kind, o.name, o.description, o.capabilities, o.organization_id = '' AS shared, o.registered_at, o.status,
       CASE WHEN o.organization_id = '' THEN '{}'::jsonb ELSE o.config END AS config,
       CASE WHEN o.organization_id = '' THEN '{}'::jsonb ELSE o.history END AS history,
       o.current_task_id, o.beat_at, o.problem, o.breaker, f.*
FROM found o
CROSS JOIN LATERAL (
    SELECT coalesce(sum(g.tasks), 0)::bigint AS total_tasks, coalesce(sum(g.failed), 0)::bigint AS failed_tasks,
           max(g.last_seen) AS last_seen, coalesce(sum(g.microseconds), 0)::bigint AS microseconds,
           coalesce(sum(g.model_calls), 0)::bigint AS model_calls, coalesce(sum(g.input_tokens), 0)::bigint AS input_tokens,
           coalesce(sum(g.output_tokens), 0)::bigint AS output_tokens, coalesce(sum(g.cost_nanos), 0)::bigint AS cost_nanos
    FROM agent_figures g
    WHERE g.organization_id = $1 AND g.project_id = $2 AND g.agent = o.agent
) f
WHERE $6::text IS NULL OR o.status = $6
ORDER BY o.agent
LIMIT $9
