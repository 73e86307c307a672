-- Nothing is written unless every position is still where this projector left it: somebody else may own it by now.
UPDATE positions AS p SET next_offset = c.next_offset, epoch = c.epoch, next_seq = c.next_seq
FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
     AS c (topic, partition, expected, next_offset, epoch, next_seq)
WHERE p.topic = c.topic AND p.partition = c.partition AND p.next_offset = c.expected AND p.epoch <= c.epoch
