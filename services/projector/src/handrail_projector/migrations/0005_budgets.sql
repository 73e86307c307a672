-- What people have set; the latest word counts.
CREATE TABLE budgets (
    budget_id       text PRIMARY KEY,
    scope           text        NOT NULL,      -- execution, workflow, agent, tenant
    name            text        NOT NULL,
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    limits          json        NOT NULL,
    period          text        NOT NULL,      -- total, day, month
    set_by          text        NOT NULL,
    removed         boolean     NOT NULL,
    set_at          timestamptz NOT NULL
);
CREATE INDEX budgets_by_tenant ON budgets (organization_id, project_id, scope, name);

-- One row per attempt and budget that it asked.
CREATE TABLE budget_uses (
    budget_id    text        NOT NULL,
    requester_id text        NOT NULL,
    run_id       text        NOT NULL,
    attempt      integer     NOT NULL,
    state        text        NOT NULL,         -- open, waits, settled
    about        json,                         -- scope, name, tenant, limits, period, as they were when it asked
    step_id      text,
    allowance    json,
    reason       text,
    tokens       bigint      NOT NULL DEFAULT 0,
    cost_usd     double precision NOT NULL DEFAULT 0,
    calls        bigint      NOT NULL DEFAULT 0,
    seconds      double precision NOT NULL DEFAULT 0,
    at           timestamptz NOT NULL,
    PRIMARY KEY (budget_id, requester_id, run_id, attempt)
);
CREATE INDEX budget_uses_open ON budget_uses (budget_id) WHERE state <> 'settled';
