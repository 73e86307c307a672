INSERT INTO review_questions (approval_id, ask, pool_id, reviewer_id, ended, at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (approval_id, ask) DO UPDATE SET
    reviewer_id = CASE WHEN EXCLUDED.reviewer_id = '' THEN review_questions.reviewer_id ELSE EXCLUDED.reviewer_id END,
    ended = EXCLUDED.ended, at = EXCLUDED.at
