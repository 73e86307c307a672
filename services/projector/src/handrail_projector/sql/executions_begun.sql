INSERT INTO executions (execution_id, workflow_id, workflow_version, user_id, organization_id, project_id, session_id,
                        status, trigger, input, context, result, error, started_at, completed_at, last_n)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::json[], $10::json[], $11::json[], $12::json[], $13::json[],
                     $14::timestamptz[], $15::timestamptz[], $16::int[])
ON CONFLICT (execution_id) DO UPDATE SET
    workflow_id = EXCLUDED.workflow_id,
    workflow_version = EXCLUDED.workflow_version,
    user_id = EXCLUDED.user_id,
    organization_id = EXCLUDED.organization_id,
    project_id = EXCLUDED.project_id,
    session_id = EXCLUDED.session_id,
    status = EXCLUDED.status,
    trigger = EXCLUDED.trigger,
    input = EXCLUDED.input,
    context = EXCLUDED.context,
    result = EXCLUDED.result,
    error = EXCLUDED.error,
    started_at = EXCLUDED.started_at,
    completed_at = EXCLUDED.completed_at,
    last_n = EXCLUDED.last_n
