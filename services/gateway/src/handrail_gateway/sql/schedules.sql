-- name: schedule
SELECT s.schedule_id, s.workflow_id, s.workflow_version, s.timetable, s.input, s.context, s.overlap, s.missed, s.paused,
       s.note, s.updated_at, r.next_due, r.last_due, r.last_outcome, r.last_run AS last_execution_id, r.last_reason,
       coalesce(r.fired, 0) AS fired, coalesce(r.skipped, 0) AS skipped
FROM schedules s
LEFT JOIN schedule_runs r USING (schedule_id)
WHERE s.organization_id = $1 AND s.project_id = $2 AND s.schedule_id = $3 AND NOT s.removed

-- name: list_schedules
SELECT s.schedule_id, s.workflow_id, s.workflow_version, s.timetable, s.input, s.context, s.overlap, s.missed, s.paused,
       s.note, s.updated_at, r.next_due, r.last_due, r.last_outcome, r.last_run AS last_execution_id, r.last_reason,
       coalesce(r.fired, 0) AS fired, coalesce(r.skipped, 0) AS skipped
FROM schedules s
LEFT JOIN schedule_runs r USING (schedule_id)
WHERE s.organization_id = $1 AND s.project_id = $2 AND NOT s.removed
  AND ($3::text IS NULL OR s.workflow_id = $3)
  AND ($4::text IS NULL OR s.schedule_id > $4)
ORDER BY s.schedule_id
LIMIT $5

-- name: schedule_ever
-- Also one that was removed.
SELECT schedule_id FROM schedules WHERE organization_id = $1 AND project_id = $2 AND schedule_id = $3
