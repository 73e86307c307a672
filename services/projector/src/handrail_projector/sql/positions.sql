SELECT topic, partition, next_offset, epoch, next_seq FROM positions
