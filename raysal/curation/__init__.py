"""Curation: a clean, balanced subset of a pool, step by step. The steps read vectors; none of them needs a label."""
