DELETE FROM pending WHERE execution_id = ANY($1::text[])
