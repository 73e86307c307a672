INSERT INTO agent_work (execution_id, step_id, run_id, agent, organization_id, project_id, partition, started_at)
SELECT c.execution_id, c.step_id, c.run_id, c.agent, e.organization_id, e.project_id, c.partition, c.started_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::timestamptz[])
     AS c (execution_id, step_id, run_id, agent, partition, started_at)
JOIN executions e USING (execution_id)
ON CONFLICT (execution_id, step_id) DO UPDATE SET
    run_id = EXCLUDED.run_id,
    agent = EXCLUDED.agent,
    started_at = EXCLUDED.started_at
