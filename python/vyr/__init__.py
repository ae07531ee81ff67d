"""A client of a Vyr node (alpha): Control API v0, and what an operator reads besides.

Labelled alpha: the calls are frozen, this package's own names are not yet.
"""

from vyr.client import Client, Task, digest_of
from vyr.errors import (
    AuthError,
    Conflict,
    DeadlineExceeded,
    Error,
    NotFound,
    ResourceExhausted,
    Transient,
    UnsupportedArtifact,
    UsageError,
)
from vyr.model import End, Histogram, Metrics, Put, Resources, Span, Submission

__all__ = [
    "AuthError",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "End",
    "Error",
    "Histogram",
    "Metrics",
    "NotFound",
    "Put",
    "ResourceExhausted",
    "Resources",
    "Span",
    "Submission",
    "Task",
    "Transient",
    "UnsupportedArtifact",
    "UsageError",
    "digest_of",
]
