INSERT INTO runners (runner_id, at, every_seconds, running, agents, chosen)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (runner_id) DO UPDATE SET
    at = EXCLUDED.at,
    every_seconds = EXCLUDED.every_seconds,
    running = EXCLUDED.running,
    agents = EXCLUDED.agents,
    chosen = EXCLUDED.chosen
