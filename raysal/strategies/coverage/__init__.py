"""Strategies that spread a batch over the pool.

Over the whole pool: `coreset` and `badge` by the lazy engine, `lcmd` by a round trip or two for each pick. Over a
shortlist in the driver: `typiclust` and `clue` by clusters, `herding` and `probcover` by facility location.
"""
