"""The rounds of a run: what is asked, in which order, and what of it is kept."""
