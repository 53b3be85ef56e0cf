"""Near-duplicates of a pool: cells and bounds, near pairs, the folder that keeps them, and who is kept."""
