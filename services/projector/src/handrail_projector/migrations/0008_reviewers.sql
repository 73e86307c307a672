-- Gates know how they are decided and who has them; `chain` is what the hash chain of the journal says before the event's record.
ALTER TABLE approvals
    ADD COLUMN priority smallint NOT NULL DEFAULT 0,   -- -1 low, 0 medium, 1 high, 2 urgent
    ADD COLUMN rules    json,
    ADD COLUMN digest   text     NOT NULL DEFAULT '',  -- of what people are shown
    ADD COLUMN assignee text     NOT NULL DEFAULT '',
    ADD COLUMN level    smallint NOT NULL DEFAULT 0;   -- how often it was escalated
ALTER TABLE approval_history ADD COLUMN chain text NOT NULL DEFAULT '';
CREATE INDEX approval_history_by_place ON approval_history (at, partition, "offset", ordinal);
CREATE INDEX approvals_by_priority ON approvals (organization_id, project_id, status, priority DESC, created_at, approval_id);

CREATE TABLE reviewers (
    pool_id         text        NOT NULL,
    reviewer_id     text        NOT NULL,
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    reviewer        json        NOT NULL,
    removed         boolean     NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (pool_id, reviewer_id)
);

-- What gates have asked the pool of reviewers; who has which (nobody yet: empty).
CREATE TABLE review_questions (
    approval_id text        NOT NULL,
    ask         integer     NOT NULL,
    pool_id     text        NOT NULL,
    reviewer_id text        NOT NULL,
    ended       boolean     NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (approval_id, ask)
);
CREATE INDEX review_questions_open ON review_questions (pool_id, reviewer_id) WHERE NOT ended;
