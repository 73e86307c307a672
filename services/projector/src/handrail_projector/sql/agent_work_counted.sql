-- What began and was answered in one batch: summed already, by execution and agent.
INSERT INTO agent_figures AS f (organization_id, project_id, agent, partition, tasks, failed, microseconds, last_seen, model_calls,
                                input_tokens, output_tokens, cost_nanos)
SELECT e.organization_id, e.project_id, c.agent, c.partition, sum(c.tasks), sum(c.failed), sum(c.microseconds),
       max(c.last_seen), sum(c.model_calls), sum(c.input_tokens), sum(c.output_tokens), sum(c.cost_nanos)
FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::bigint[],
            $9::bigint[], $10::bigint[], $11::bigint[])
     AS c (execution_id, agent, partition, tasks, failed, microseconds, last_seen, model_calls, input_tokens,
           output_tokens, cost_nanos)
JOIN executions e USING (execution_id)
GROUP BY e.organization_id, e.project_id, c.agent, c.partition
ON CONFLICT (organization_id, project_id, agent, partition) DO UPDATE SET
    tasks = f.tasks + EXCLUDED.tasks,
    failed = f.failed + EXCLUDED.failed,
    microseconds = f.microseconds + EXCLUDED.microseconds,
    last_seen = greatest(f.last_seen, EXCLUDED.last_seen),
    model_calls = f.model_calls + EXCLUDED.model_calls,
    input_tokens = f.input_tokens + EXCLUDED.input_tokens,
    output_tokens = f.output_tokens + EXCLUDED.output_tokens,
    cost_nanos = f.cost_nanos + EXCLUDED.cost_nanos
