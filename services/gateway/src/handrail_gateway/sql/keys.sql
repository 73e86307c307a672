-- name: list_keys
-- Newest first; with $3, that one.
SELECT k.key_id, k.name, k.roles, k.permissions, k.version, k.earlier_until, k.signs, k.made_by, k.made_at, k.changed_by,
       k.changed_at, k.expires_at, k.revoked, u.used_at AS last_used
FROM api_keys k
LEFT JOIN api_key_uses u USING (key_id)
WHERE k.organization_id = $1 AND k.project_id = $2
  AND ($3::text IS NULL OR k.key_id = $3)
  AND ($4::timestamptz IS NULL OR k.made_at < $4 OR (k.made_at = $4 AND k.key_id > $5::text))
ORDER BY k.made_at DESC, k.key_id
LIMIT $6
