-- An attempt begins with a clean row; only the order of first appearance stays.
INSERT INTO steps (execution_id, step_id, step_type, run_id, agent, status, attempt, waits_for, input, output, error,
                   started_at, completed_at, wake_at, deadline, first_n)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::text[],
                     $9::json[], $10::json[], $11::json[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[],
                     $15::timestamptz[], $16::int[])
ON CONFLICT (execution_id, step_id) DO UPDATE SET
    step_type = EXCLUDED.step_type,
    run_id = EXCLUDED.run_id,
    agent = EXCLUDED.agent,
    status = EXCLUDED.status,
    attempt = EXCLUDED.attempt,
    waits_for = EXCLUDED.waits_for,
    input = EXCLUDED.input,
    output = EXCLUDED.output,
    error = EXCLUDED.error,
    started_at = EXCLUDED.started_at,
    completed_at = EXCLUDED.completed_at,
    wake_at = EXCLUDED.wake_at,
    deadline = EXCLUDED.deadline
