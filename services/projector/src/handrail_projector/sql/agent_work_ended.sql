-- Takes away what ended, and counts it for its agent if it answered.
WITH ended AS (
    DELETE FROM agent_work AS w
    USING unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bool[], $6::int[], $7::bigint[], $8::bigint[],
                 $9::bigint[], $10::bigint[])
          AS c (execution_id, step_id, agent, at, answered, failed, model_calls, input_tokens, output_tokens, cost_nanos)
    WHERE w.execution_id = c.execution_id AND w.step_id = c.step_id
    RETURNING w.organization_id, w.project_id, coalesce(c.agent, w.agent) AS agent, w.partition, c.answered, c.failed,
              (greatest(0, extract(epoch FROM c.at - w.started_at)) * 1000000)::bigint AS microseconds, c.at,
              c.model_calls, c.input_tokens, c.output_tokens, c.cost_nanos
)
INSERT INTO agent_figures AS f (organization_id, project_id, agent, partition, tasks, failed, microseconds, last_seen, model_calls,
                                input_tokens, output_tokens, cost_nanos)
SELECT organization_id, project_id, agent, partition, count(*), sum(failed), sum(microseconds), max(at), sum(model_calls),
       sum(input_tokens), sum(output_tokens), sum(cost_nanos)
FROM ended
WHERE answered AND agent <> ''
GROUP BY organization_id, project_id, agent, partition
ON CONFLICT (organization_id, project_id, agent, partition) DO UPDATE SET
    tasks = f.tasks + EXCLUDED.tasks,
    failed = f.failed + EXCLUDED.failed,
    microseconds = f.microseconds + EXCLUDED.microseconds,
    last_seen = greatest(f.last_seen, EXCLUDED.last_seen),
    model_calls = f.model_calls + EXCLUDED.model_calls,
    input_tokens = f.input_tokens + EXCLUDED.input_tokens,
    output_tokens = f.output_tokens + EXCLUDED.output_tokens,
    cost_nanos = f.cost_nanos + EXCLUDED.cost_nanos
