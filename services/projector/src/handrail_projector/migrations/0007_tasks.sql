-- Steps as people's tasks: what the definition and people say of them. A step without a word of that has no row.
CREATE TABLE tasks (
    execution_id text        NOT NULL,
    step_id      text        NOT NULL,
    task_id      text,                         -- of one that was posted: the id that it was posted with
    run_id       text,
    name         text,
    description  text,
    agent        text,                         -- as planned, or as it was handed over before it began
    assignee     text,                         -- the person who has it; empty for none
    priority     text,
    due_date     timestamptz,
    overdue      boolean,
    progress     integer,
    depends_on   text[],
    metadata     json,
    brought      json,                         -- times of before, which it was posted with
    PRIMARY KEY (execution_id, step_id)
);
CREATE INDEX tasks_by_id ON tasks (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX tasks_by_agent ON tasks (agent) WHERE agent IS NOT NULL;

-- The id of any other task is that of its step run.
CREATE INDEX steps_by_run ON steps USING hash (run_id);

CREATE TABLE task_comments (
    comment_id      text PRIMARY KEY,
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    execution_id    text        NOT NULL,
    step_id         text        NOT NULL,
    task_id         text        NOT NULL,
    author_id       text        NOT NULL,
    author_type     text        NOT NULL,
    author_name     text        NOT NULL,
    text            text        NOT NULL,
    created_at      timestamptz NOT NULL
);
CREATE INDEX task_comments_by_task ON task_comments (execution_id, step_id, created_at);

-- What agents bring along, and what those say of themselves that nobody calls.
ALTER TABLE agents ADD COLUMN history jsonb NOT NULL DEFAULT '{}';
CREATE TABLE agent_beats (
    agent           text        NOT NULL,
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    status          text        NOT NULL,
    every_seconds   double precision,
    at              timestamptz NOT NULL,
    PRIMARY KEY (agent, organization_id, project_id)
);

CREATE VIEW task_list AS
SELECT e.organization_id, e.project_id, s.execution_id, s.step_id, e.workflow_id, s.first_n, e.started_at AS execution_started_at,
       coalesce(d.task_id, nullif(s.run_id, ''), d.run_id) AS id,
       coalesce(d.name, s.step_id) AS name, coalesce(d.description, '') AS description,
       CASE WHEN coalesce(d.assignee, '') <> '' OR s.step_type = 'tool_call' THEN NULL
            WHEN s.attempt = 0 THEN coalesce(d.agent, s.agent)
            ELSE coalesce(s.agent, d.agent) END AS agent_id,
       nullif(d.assignee, '') AS assignee,
       e.status AS execution_status, s.status AS step_status, s.waits_for, coalesce(d.priority, 'medium') AS priority, s.started_at, s.completed_at, d.due_date,
       coalesce(d.overdue, false) AND s.completed_at IS NULL AS overdue, d.progress, coalesce(d.depends_on, '{}') AS depends_on,
       coalesce(d.metadata, '{}') AS metadata, d.brought, s.step_type, s.input, s.output, s.error,
       (SELECT count(*) FROM task_comments c
        WHERE c.execution_id = s.execution_id AND c.step_id = s.step_id AND c.organization_id = e.organization_id
          AND c.project_id = e.project_id)
       + (SELECT count(*) FROM approvals a JOIN approval_history h USING (approval_id)
          WHERE a.execution_id = s.execution_id AND a.step_id = s.step_id AND a.organization_id = e.organization_id
            AND a.project_id = e.project_id AND a.suggestion IS NOT NULL AND h.event ->> 'type' = 'approval.commented') AS comments
FROM steps s
JOIN executions e USING (execution_id)
LEFT JOIN tasks d USING (execution_id, step_id)
WHERE s.step_type IN ('agent_execution', 'tool_call') OR d.step_id IS NOT NULL;
