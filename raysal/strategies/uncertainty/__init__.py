"""Strategies that ask what the head is unsure of."""
