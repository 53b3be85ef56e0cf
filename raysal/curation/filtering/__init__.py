"""What the step `filter` goes by: columns of the pool, and distances of vectors."""
