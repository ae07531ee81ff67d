from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_RO: _ClassVar[Mode]
    MODE_RW: _ClassVar[Mode]

class TaskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATE_UNSPECIFIED: _ClassVar[TaskState]
    TASK_STATE_ACCEPTED: _ClassVar[TaskState]
    TASK_STATE_RUNNING: _ClassVar[TaskState]
    TASK_STATE_COMPLETED: _ClassVar[TaskState]
    TASK_STATE_FAILED: _ClassVar[TaskState]
    TASK_STATE_CANCELLED: _ClassVar[TaskState]
MODE_UNSPECIFIED: Mode
MODE_RO: Mode
MODE_RW: Mode
TASK_STATE_UNSPECIFIED: TaskState
TASK_STATE_ACCEPTED: TaskState
TASK_STATE_RUNNING: TaskState
TASK_STATE_COMPLETED: TaskState
TASK_STATE_FAILED: TaskState
TASK_STATE_CANCELLED: TaskState

class Error(_message.Message):
    __slots__ = ("category", "message", "hint", "retryable", "retry_after_ms", "code")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    category: str
    message: str
    hint: str
    retryable: bool
    retry_after_ms: int
    code: int
    def __init__(self, category: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., retryable: bool = ..., retry_after_ms: _Optional[int] = ..., code: _Optional[int] = ...) -> None: ...

class PutArtifactRequest(_message.Message):
    __slots__ = ("head", "blob_digest", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BLOB_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: ArtifactHead
    blob_digest: str
    chunk: bytes
    def __init__(self, head: _Optional[_Union[ArtifactHead, _Mapping]] = ..., blob_digest: _Optional[str] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ArtifactHead(_message.Message):
    __slots__ = ("digest", "manifest", "signature")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    manifest: bytes
    signature: bytes
    def __init__(self, digest: _Optional[str] = ..., manifest: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class PutArtifactResponse(_message.Message):
    __slots__ = ("digest", "signer", "existed")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    digest: str
    signer: str
    existed: bool
    def __init__(self, digest: _Optional[str] = ..., signer: _Optional[str] = ..., existed: bool = ...) -> None: ...

class SubmitTaskRequest(_message.Message):
    __slots__ = ("artifact_digest", "input_digest", "inline", "state_bindings", "resources", "idempotency_key", "traceparent")
    ARTIFACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    INPUT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    STATE_BINDINGS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    artifact_digest: str
    input_digest: str
    inline: bytes
    state_bindings: _containers.RepeatedCompositeFieldContainer[StateBinding]
    resources: Resources
    idempotency_key: str
    traceparent: str
    def __init__(self, artifact_digest: _Optional[str] = ..., input_digest: _Optional[str] = ..., inline: _Optional[bytes] = ..., state_bindings: _Optional[_Iterable[_Union[StateBinding, _Mapping]]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., traceparent: _Optional[str] = ...) -> None: ...

class StateBinding(_message.Message):
    __slots__ = ("state_id", "mode")
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    state_id: str
    mode: Mode
    def __init__(self, state_id: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("memory_bytes", "deadline_ms", "cpu_ms", "output_bytes_max", "priority", "deterministic")
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    CPU_MS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    memory_bytes: int
    deadline_ms: int
    cpu_ms: int
    output_bytes_max: int
    priority: int
    deterministic: bool
    def __init__(self, memory_bytes: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., cpu_ms: _Optional[int] = ..., output_bytes_max: _Optional[int] = ..., priority: _Optional[int] = ..., deterministic: bool = ...) -> None: ...

class SubmitTaskResponse(_message.Message):
    __slots__ = ("task_id", "error")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    error: Error
    def __init__(self, task_id: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class CancelTaskRequest(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class CancelTaskResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: TaskState
    def __init__(self, state: _Optional[_Union[TaskState, str]] = ...) -> None: ...

class CreateStateRequest(_message.Message):
    __slots__ = ("name", "bytes_max")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLASS_FIELD_NUMBER: _ClassVar[int]
    BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    name: str
    bytes_max: int
    def __init__(self, name: _Optional[str] = ..., bytes_max: _Optional[int] = ..., **kwargs) -> None: ...

class CreateStateResponse(_message.Message):
    __slots__ = ("state_id",)
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    state_id: str
    def __init__(self, state_id: _Optional[str] = ...) -> None: ...

class BindStateRequest(_message.Message):
    __slots__ = ("task_id", "state_id", "mode")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    state_id: str
    mode: Mode
    def __init__(self, task_id: _Optional[str] = ..., state_id: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ...) -> None: ...

class BindStateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamTracesRequest(_message.Message):
    __slots__ = ("filter",)
    FILTER_FIELD_NUMBER: _ClassVar[int]
    filter: TraceFilter
    def __init__(self, filter: _Optional[_Union[TraceFilter, _Mapping]] = ...) -> None: ...

class TraceFilter(_message.Message):
    __slots__ = ("task_ids", "artifact_digest", "terminal_only", "live_only", "with_statement")
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_ONLY_FIELD_NUMBER: _ClassVar[int]
    LIVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    WITH_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[str]
    artifact_digest: str
    terminal_only: bool
    live_only: bool
    with_statement: bool
    def __init__(self, task_ids: _Optional[_Iterable[str]] = ..., artifact_digest: _Optional[str] = ..., terminal_only: bool = ..., live_only: bool = ..., with_statement: bool = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("trace_id", "span_id", "parent_span_id", "name", "start_unix_nano", "end_unix_nano", "task_id", "artifact_digest", "end", "dropped")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    START_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    END_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    start_unix_nano: int
    end_unix_nano: int
    task_id: str
    artifact_digest: str
    end: TaskEnd
    dropped: int
    def __init__(self, trace_id: _Optional[bytes] = ..., span_id: _Optional[bytes] = ..., parent_span_id: _Optional[bytes] = ..., name: _Optional[str] = ..., start_unix_nano: _Optional[int] = ..., end_unix_nano: _Optional[int] = ..., task_id: _Optional[str] = ..., artifact_digest: _Optional[str] = ..., end: _Optional[_Union[TaskEnd, _Mapping]] = ..., dropped: _Optional[int] = ...) -> None: ...

class TaskEnd(_message.Message):
    __slots__ = ("state", "reason", "exit_code", "message", "input_digest", "output_digest", "output_bytes", "receipt_digest", "statement", "run_us", "cpu_us", "memory_peak_bytes", "signer")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    INPUT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    RUN_US_FIELD_NUMBER: _ClassVar[int]
    CPU_US_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    state: TaskState
    reason: str
    exit_code: int
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
    def __init__(self, state: _Optional[_Union[TaskState, str]] = ..., reason: _Optional[str] = ..., exit_code: _Optional[int] = ..., message: _Optional[str] = ..., input_digest: _Optional[str] = ..., output_digest: _Optional[str] = ..., output_bytes: _Optional[int] = ..., receipt_digest: _Optional[str] = ..., statement: _Optional[bytes] = ..., run_us: _Optional[int] = ..., cpu_us: _Optional[int] = ..., memory_peak_bytes: _Optional[int] = ..., signer: _Optional[str] = ...) -> None: ...

class StreamMetricsRequest(_message.Message):
    __slots__ = ("filter",)
    FILTER_FIELD_NUMBER: _ClassVar[int]
    filter: MetricFilter
    def __init__(self, filter: _Optional[_Union[MetricFilter, _Mapping]] = ...) -> None: ...

class MetricFilter(_message.Message):
    __slots__ = ("name_prefix", "interval_ms")
    NAME_PREFIX_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    name_prefix: str
    interval_ms: int
    def __init__(self, name_prefix: _Optional[str] = ..., interval_ms: _Optional[int] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("time_unix_nano", "delta", "metrics")
    TIME_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    time_unix_nano: int
    delta: bool
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    def __init__(self, time_unix_nano: _Optional[int] = ..., delta: bool = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "unit", "counter", "gauge", "histogram")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    GAUGE_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    counter: int
    gauge: int
    histogram: Histogram
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ..., counter: _Optional[int] = ..., gauge: _Optional[int] = ..., histogram: _Optional[_Union[Histogram, _Mapping]] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("bounds", "counts", "sum")
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    bounds: _containers.RepeatedScalarFieldContainer[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sum: int
    def __init__(self, bounds: _Optional[_Iterable[int]] = ..., counts: _Optional[_Iterable[int]] = ..., sum: _Optional[int] = ...) -> None: ...
