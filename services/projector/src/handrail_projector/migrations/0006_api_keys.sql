-- What is said of API keys; the latest word counts. Their digests stay on the topic.
CREATE TABLE api_keys (
    key_id          text PRIMARY KEY,
    organization_id text        NOT NULL,
    project_id      text        NOT NULL,
    name            text        NOT NULL,
    roles           text[]      NOT NULL,
    permissions     text[]      NOT NULL,
    version         integer     NOT NULL,
    earlier_until   timestamptz,
    signs           boolean     NOT NULL,
    made_by         text        NOT NULL,
    made_at         timestamptz NOT NULL,
    changed_by      text        NOT NULL,
    changed_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    revoked         boolean     NOT NULL
);
CREATE INDEX api_keys_by_tenant ON api_keys (organization_id, project_id, made_at DESC, key_id);

CREATE TABLE api_key_uses (
    key_id  text PRIMARY KEY,
    used_at timestamptz NOT NULL
);
