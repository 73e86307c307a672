-- What people search executions by, and where an execution comes from.
ALTER TABLE executions
    ADD COLUMN attributes jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN parent_id  text,                -- of a sub-workflow, and of a schedule's run unless runs may overlap
    ADD COLUMN origin_id  text;                -- the recorded execution that this one goes on from
CREATE INDEX executions_by_attribute ON executions USING gin (attributes jsonb_path_ops) WHERE attributes <> '{}';
CREATE INDEX executions_by_parent ON executions (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX executions_by_origin ON executions (origin_id) WHERE origin_id IS NOT NULL;
CREATE INDEX executions_by_session ON executions (session_id, started_at DESC) WHERE session_id IS NOT NULL;

-- Asked for, and not begun. A table, since an index on the status would cost every change of it.
CREATE TABLE pending (
    execution_id text PRIMARY KEY
);

-- As they were defined: the latest schedule.defined counts.
CREATE TABLE schedules (
    schedule_id      text PRIMARY KEY,         -- without the prefix that its story has in the journal
    workflow_id      text        NOT NULL,
    workflow_version integer,
    user_id          text        NOT NULL,
    organization_id  text        NOT NULL,
    project_id       text        NOT NULL,
    timetable        json        NOT NULL,
    input            json,
    context          json,
    overlap          text        NOT NULL,
    missed           text        NOT NULL,
    paused           boolean     NOT NULL,
    removed          boolean     NOT NULL,
    note             text        NOT NULL,
    updated_at       timestamptz NOT NULL
);
CREATE INDEX schedules_by_tenant ON schedules (organization_id, project_id, schedule_id);

-- What became of them, from the journal. Apart, because the two topics are not in one order.
CREATE TABLE schedule_runs (
    schedule_id  text PRIMARY KEY,
    next_due     timestamptz,
    last_due     timestamptz,
    last_outcome text,
    last_run     text,
    last_reason  text,
    fired        integer NOT NULL,
    skipped      integer NOT NULL
);

-- How starts that name no version are shared between two.
CREATE TABLE rollouts (
    workflow_id     text    PRIMARY KEY,
    organization_id text    NOT NULL,
    project_id      text    NOT NULL,
    stable          integer,
    canary          integer,                   -- none: the newest version for all
    percent         double precision NOT NULL,
    updated_at      timestamptz NOT NULL
);
