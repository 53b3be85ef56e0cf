"""Strategies that ask what labels would say of the weights."""
