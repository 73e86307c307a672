INSERT INTO schedule_runs AS r (schedule_id, next_due, last_due, last_outcome, last_run, last_reason, fired, skipped)
VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, 0), coalesce($8, 0))
ON CONFLICT (schedule_id) DO UPDATE SET
    next_due = EXCLUDED.next_due,
    last_due = coalesce(EXCLUDED.last_due, r.last_due),
    last_outcome = coalesce(EXCLUDED.last_outcome, r.last_outcome),
    last_run = coalesce(EXCLUDED.last_run, r.last_run),
    last_reason = coalesce(EXCLUDED.last_reason, r.last_reason),
    fired = coalesce($7, r.fired),
    skipped = coalesce($8, r.skipped)
