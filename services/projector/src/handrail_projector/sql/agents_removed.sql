DELETE FROM agents WHERE agent = any($1::text[])
