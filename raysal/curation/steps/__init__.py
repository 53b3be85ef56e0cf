"""The steps of a plan, one file for each."""
