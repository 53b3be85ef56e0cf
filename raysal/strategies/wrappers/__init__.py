"""Strategies around another one: which candidates it sees, and what it learns while it picks."""
