DELETE FROM runners WHERE runner_id = ANY($1::text[])
