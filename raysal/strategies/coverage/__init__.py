"""Strategies that spread a batch over the pool."""
