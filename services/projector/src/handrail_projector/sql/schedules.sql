INSERT INTO schedules (schedule_id, workflow_id, workflow_version, user_id, organization_id, project_id, timetable, input,
                       context, overlap, missed, paused, removed, note, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (schedule_id) DO UPDATE SET
    workflow_id = EXCLUDED.workflow_id,
    workflow_version = EXCLUDED.workflow_version,
    user_id = EXCLUDED.user_id,
    timetable = EXCLUDED.timetable,
    input = EXCLUDED.input,
    context = EXCLUDED.context,
    overlap = EXCLUDED.overlap,
    missed = EXCLUDED.missed,
    paused = EXCLUDED.paused,
    removed = EXCLUDED.removed,
    note = EXCLUDED.note,
    updated_at = EXCLUDED.updated_at
-- The scheduler refuses what another tenant says of a schedule, and so do the read models.
WHERE (schedules.organization_id, schedules.project_id) = (EXCLUDED.organization_id, EXCLUDED.project_id)
