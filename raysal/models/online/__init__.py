"""From the last head to the next in closed form, and when to fit anew instead."""
