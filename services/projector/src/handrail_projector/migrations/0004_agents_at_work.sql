-- What agents work on, and what they have done: by tenant, since a shared agent works for several.

CREATE TABLE agent_work (
    execution_id    text        NOT NULL,
    step_id         text        NOT NULL,
    run_id          text        NOT NULL,
    agent           text        NOT NULL,      -- empty until somebody has answered, of a step that asks for capabilities
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    partition       integer     NOT NULL,      -- of the journal
    started_at      timestamptz NOT NULL,
    PRIMARY KEY (execution_id, step_id)
);
CREATE INDEX agent_work_by_agent ON agent_work (organization_id, project_id, agent, started_at DESC);

-- Sums of whole numbers, so that they are the same in whatever order they were added; by partition, so that projectors do
-- not wait for each other's rows.
CREATE TABLE agent_figures (
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    agent           text        NOT NULL,
    partition       integer     NOT NULL,
    tasks           bigint      NOT NULL,      -- attempts that it answered
    failed          bigint      NOT NULL,
    microseconds    bigint      NOT NULL,      -- from request to answer
    last_seen       timestamptz NOT NULL,
    model_calls     bigint      NOT NULL,
    input_tokens    bigint      NOT NULL,
    output_tokens   bigint      NOT NULL,
    cost_nanos      bigint      NOT NULL,      -- billionths of a dollar
    PRIMARY KEY (organization_id, project_id, agent, partition)
);

-- Who carries steps out, as they said last.
CREATE TABLE runners (
    runner_id     text PRIMARY KEY,
    at            timestamptz      NOT NULL,
    every_seconds double precision NOT NULL,
    running       integer          NOT NULL,
    agents        jsonb            NOT NULL,   -- those that it does not simply ask
    chosen        jsonb            NOT NULL    -- who works on steps that ask for capabilities
);
