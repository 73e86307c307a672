-- Asked for, not begun: the journal's row, before or after, always wins.
WITH inserted AS (
INSERT INTO executions (execution_id, workflow_id, workflow_version, user_id, organization_id, project_id, session_id,
                        status, trigger, input, context, started_at, last_n)
SELECT c.execution_id, c.workflow_id, c.workflow_version, c.user_id, c.organization_id, c.project_id, c.session_id,
       'pending', c.trigger, c.input, c.context, c.started_at, 0
FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::json[], $9::json[], $10::json[], $11::timestamptz[])
     AS c (execution_id, workflow_id, workflow_version, user_id, organization_id, project_id, session_id,
           trigger, input, context, started_at)
ON CONFLICT (execution_id) DO NOTHING
RETURNING execution_id
)
INSERT INTO pending SELECT execution_id FROM inserted ON CONFLICT DO NOTHING
