"""Defaults and limits that the config, the Python functions and the command line share.

This module imports nothing, so that `raysal --help` stays fast.
"""

BATCH_SIZE = 64
"""Items in one pass of an encoder."""
DECODE_THREADS = 2
"""Threads that decode items ahead of the encoder."""
MAX_CHUNK_ROWS = 65536
"""Items that a chunk may have."""
MAX_QUARANTINE = 0.01
"""Share of a source's items that may be quarantined before the embed job raises `QuarantineExceeded`."""
MAX_PASSED_OVER = 0.1
"""Share of the files that look like items that a source may pass over before the job raises `PassedOverExceeded`. It is
above the share for the quarantine, because raysal can be wrong about what somebody takes for an item."""
MOST_MISSING = 0.5
"""Share of a pool's items that may be missing in its source for them to be taken out: beyond it, a disk may be."""
