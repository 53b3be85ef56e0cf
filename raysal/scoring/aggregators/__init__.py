"""Aggregators: from the scores of the parts of an owner to its own."""
