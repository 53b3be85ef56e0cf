"""Objects in buckets, at URLs such as `s3://bucket/folder`: list, read, fetch, write.

A `Bucket` is an address. `obstore` does the transport for s3, gs, az and http, and fsspec for every other scheme.
Credentials come from the environment or the files of the cloud's own tools; they are never written anywhere.
"""

from raysal.buckets.address import is_url, local_or_url
from raysal.buckets.base import Object
from raysal.buckets.bucket import Bucket
from raysal.buckets.cache import cached

__all__ = ["Bucket", "Object", "cached", "is_url", "local_or_url"]
