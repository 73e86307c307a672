INSERT INTO budget_uses (budget_id, requester_id, run_id, attempt, state, about, step_id, allowance, reason, tokens, cost_usd,
                         calls, seconds, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (budget_id, requester_id, run_id, attempt) DO UPDATE SET
    state = EXCLUDED.state,
    about = coalesce(EXCLUDED.about, budget_uses.about),
    step_id = coalesce(EXCLUDED.step_id, budget_uses.step_id),
    allowance = coalesce(EXCLUDED.allowance, budget_uses.allowance),
    reason = coalesce(EXCLUDED.reason, budget_uses.reason),
    tokens = EXCLUDED.tokens,
    cost_usd = EXCLUDED.cost_usd,
    calls = EXCLUDED.calls,
    seconds = EXCLUDED.seconds,
    at = EXCLUDED.at
