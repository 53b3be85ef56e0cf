"""What strategies share.

`lazy_greedy` picks from the whole pool exactly, and looks at few rows for it. Its parts: `partition_programs` and
`partition_state` (what a partition does), `priorities` (the rules), `feature_maps` (the spaces), `distances`, `ranking`
and `sharing` (threads). `dense` is for strategies that bring every row up to date after every pick. `shortlist` brings
a bounded number of candidates into the driver, where `kmeans` and `facility_location` compare them with one another.
"""
