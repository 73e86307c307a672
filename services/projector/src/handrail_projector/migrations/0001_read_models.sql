-- Read models: everything here can be rebuilt from the topics. Tables live in whatever schema the search path names
-- (`handrail` when live, another one while a replay builds the next). Payloads are json, not jsonb: they are written
-- once, read whole, and never searched on the hot path.

CREATE TABLE positions (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL,
    epoch       bigint  NOT NULL DEFAULT -1,   -- journals only: the epoch and the next sequence number that count
    next_seq    bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
);

CREATE TABLE workflow_versions (
    workflow_id     text        NOT NULL,
    version         integer     NOT NULL,
    user_id         text        NOT NULL,
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    name            text        NOT NULL,
    definition      jsonb       NOT NULL,
    active          boolean     NOT NULL,
    event_id        text        NOT NULL,      -- of the workflow.defined that won this version
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, version)
);
CREATE INDEX workflow_versions_by_tenant ON workflow_versions (organization_id, project_id, workflow_id, version DESC);

CREATE TABLE executions (
    execution_id     text PRIMARY KEY,
    workflow_id      text        NOT NULL,
    workflow_version integer,
    user_id          text        NOT NULL,
    organization_id  text        NOT NULL,
    project_id       text        NOT NULL,
    session_id       text,
    status           text        NOT NULL,     -- pending, running, waiting, completed, failed, cancelled, timeout
    trigger          json,
    input            json,
    context          json,
    result           json,
    error            json,
    started_at       timestamptz NOT NULL,     -- asked for (pending) or begun
    completed_at     timestamptz,
    last_n           integer     NOT NULL      -- number of the last event folded in; 0 while pending
);
CREATE INDEX executions_by_tenant ON executions (organization_id, project_id, started_at DESC, execution_id);
CREATE INDEX executions_by_workflow ON executions (workflow_id, started_at DESC, execution_id);

CREATE TABLE steps (
    execution_id text        NOT NULL,
    step_id      text        NOT NULL,
    step_type    text        NOT NULL,
    run_id       text        NOT NULL,
    agent        text,
    status       text        NOT NULL,         -- running, waiting, retrying, completed, failed, skipped, cancelled
    attempt      integer     NOT NULL,
    waits_for    text,
    input        json,
    output       json,
    error        json,
    started_at   timestamptz,                  -- of the latest attempt
    completed_at timestamptz,
    wake_at      timestamptz,
    deadline     timestamptz,
    first_n      integer     NOT NULL,         -- order of first appearance
    PRIMARY KEY (execution_id, step_id)
);

-- The history: one row per accepted journal record of the scheduler.
CREATE TABLE execution_history (
    execution_id text        NOT NULL,
    first_n      integer     NOT NULL,
    last_n       integer     NOT NULL,
    partition    integer     NOT NULL,
    "offset"     bigint      NOT NULL,
    at           timestamptz NOT NULL,
    source       text        NOT NULL,
    events       json        NOT NULL,         -- the record's events, as in the journal
    PRIMARY KEY (execution_id, first_n)
);

CREATE TABLE approvals (
    approval_id     text PRIMARY KEY,
    execution_id    text        NOT NULL,
    workflow_id     text        NOT NULL,
    step_id         text        NOT NULL,
    user_id         text        NOT NULL,
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    status          text        NOT NULL,      -- pending, approved, rejected, expired, withdrawn
    approvers       text[]      NOT NULL,
    message         text        NOT NULL,
    show            json,
    deadline        timestamptz,
    submission_id   text        NOT NULL DEFAULT '',
    decided_by      text        NOT NULL DEFAULT '',
    comment         text        NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    decided_at      timestamptz
);
CREATE INDEX approvals_by_tenant ON approvals (organization_id, project_id, status, created_at, approval_id);
CREATE INDEX approvals_by_execution ON approvals (execution_id);

-- What happened at a gate, comments and refused submissions included.
CREATE TABLE approval_history (
    approval_id text        NOT NULL,
    partition   integer     NOT NULL,
    "offset"    bigint      NOT NULL,
    ordinal     integer     NOT NULL,
    at          timestamptz NOT NULL,
    event       json        NOT NULL,
    PRIMARY KEY (approval_id, partition, "offset", ordinal)
);

CREATE TABLE agents (
    agent           text PRIMARY KEY,
    kind            text        NOT NULL,
    name            text        NOT NULL,
    description     text        NOT NULL,
    capabilities    text[]      NOT NULL,
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    config          jsonb       NOT NULL,
    registered_at   timestamptz NOT NULL
);

CREATE TABLE dead_letters (
    event_id     text PRIMARY KEY,
    service      text        NOT NULL,
    code         text        NOT NULL,
    reason       text        NOT NULL,
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    "offset"     bigint      NOT NULL,
    execution_id text        NOT NULL,
    occurred_at  timestamptz NOT NULL
);
