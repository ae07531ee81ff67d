"""What a node tells, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple, Union

from vyr.control.v0 import control_pb2 as pb

_STATES = {
    pb.TASK_STATE_ACCEPTED: "accepted",
    pb.TASK_STATE_RUNNING: "running",
    pb.TASK_STATE_COMPLETED: "completed",
    pb.TASK_STATE_FAILED: "failed",
    pb.TASK_STATE_CANCELLED: "cancelled",
}


def state_word(state: int) -> str:
    """A task's state in one word."""
    return _STATES.get(state, "unknown")  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class Resources:
    """What a task may use. 0: the node's default; more than its ceiling: the ceiling."""

    memory_bytes: int = 0
    deadline_ms: int = 0
    cpu_ms: int = 0
    output_bytes_max: int = 0
    priority: int = 0
    deterministic: bool = False


@dataclass(frozen=True)
class Submission:
    """One task to be submitted. `input`: up to 64 KiB, or the digest of bytes in the store."""

    artifact: str
    input: Union[bytes, str] = b""
    key: Optional[str] = None
    resources: Optional[Resources] = None
    #: State ids with `ro` or `rw`.
    states: Sequence[Tuple[str, str]] = ()
    traceparent: Optional[str] = None


@dataclass(frozen=True)
class End:
    """How a task ended."""

    state: str
    reason: str
    exit_code: Optional[int]
    message: str
    input_digest: str
    output_digest: str
    output_bytes: int
    receipt_digest: str
    statement: bytes
    run_us: int
    cpu_us: int
    memory_peak_bytes: int
    signer: str

    @property
    def ok(self) -> bool:
        """Whether it completed."""
        return self.state == "completed"


@dataclass(frozen=True)
class Span:
    """`submit`, `execute` or `complete` of one task; the last has its `end`."""

    name: str
    task_id: str
    artifact_digest: str
    trace_id: str
    span_id: str
    parent_span_id: str
    start_unix_nano: int
    end_unix_nano: int
    end: Optional[End]
    #: Spans that this reader was too slow for, before this one.
    dropped: int


@dataclass(frozen=True)
class Histogram:
    """Upper bounds, and one count more than bounds."""

    bounds: Tuple[int, ...]
    counts: Tuple[int, ...]
    sum: int


@dataclass(frozen=True)
class Metrics:
    """A snapshot of metrics by name, or with `delta` those that changed since the last one."""

    time_unix_nano: int
    delta: bool
    values: Dict[str, Union[int, Histogram]]
    units: Dict[str, str]


@dataclass(frozen=True)
class Put:
    """An artifact that was stored."""

    digest: str
    signer: str
    existed: bool


def end_of(end: pb.TaskEnd) -> End:
    """From the wire."""
    return End(
        state=state_word(end.state),
        reason=end.reason,
        exit_code=end.exit_code if end.HasField("exit_code") else None,
        message=end.message,
        input_digest=end.input_digest,
        output_digest=end.output_digest,
        output_bytes=end.output_bytes,
        receipt_digest=end.receipt_digest,
        statement=end.statement,
        run_us=end.run_us,
        cpu_us=end.cpu_us,
        memory_peak_bytes=end.memory_peak_bytes,
        signer=end.signer,
    )


def span_of(span: pb.Span) -> Span:
    """From the wire."""
    return Span(
        name=span.name,
        task_id=span.task_id,
        artifact_digest=span.artifact_digest,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        start_unix_nano=span.start_unix_nano,
        end_unix_nano=span.end_unix_nano,
        end=end_of(span.end) if span.HasField("end") else None,
        dropped=span.dropped,
    )


def metrics_of(metrics: pb.Metrics) -> Metrics:
    """From the wire."""
    values: Dict[str, Union[int, Histogram]] = {}
    for metric in metrics.metrics:
        kind = metric.WhichOneof("value")
        if kind == "histogram":
            found = metric.histogram
            values[metric.name] = Histogram(tuple(found.bounds), tuple(found.counts), found.sum)
        else:
            values[metric.name] = metric.counter if kind == "counter" else metric.gauge
    units = {metric.name: metric.unit for metric in metrics.metrics}
    return Metrics(metrics.time_unix_nano, metrics.delta, values, units)


def request_of(task: Submission) -> pb.SubmitTaskRequest:
    """To the wire."""
    request = pb.SubmitTaskRequest(
        artifact_digest=task.artifact,
        idempotency_key=task.key or "",
        traceparent=task.traceparent or "",
    )
    if isinstance(task.input, str):
        request.input_digest = task.input
    else:
        request.inline = bytes(task.input)
    if task.resources is not None:
        request.resources.CopyFrom(pb.Resources(**vars(task.resources)))
    for state_id, mode in task.states:
        request.state_bindings.append(pb.StateBinding(state_id=state_id, mode=mode_of(mode)))
    return request


def mode_of(mode: str) -> pb.Mode:
    """`ro` or `rw`."""
    if mode == "ro":
        return pb.MODE_RO
    if mode == "rw":
        return pb.MODE_RW
    raise ValueError(f"a mode is 'ro' or 'rw', not {mode!r}")
