"""Hierarchical clusters of a pool: k-means beside the data, clusters of clusters, and the files that keep them."""
