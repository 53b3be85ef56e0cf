"""Solvers of the penalised likelihood."""
