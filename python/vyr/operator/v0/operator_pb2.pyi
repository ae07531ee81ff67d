from vyr.control.v0 import control_pb2 as _control_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("version", "origin", "node_key", "events", "tasks_queued", "tasks_running", "states", "uptime_ms", "processes", "settings", "data_dir")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    NODE_KEY_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    TASKS_QUEUED_FIELD_NUMBER: _ClassVar[int]
    TASKS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    DATA_DIR_FIELD_NUMBER: _ClassVar[int]
    version: str
    origin: str
    node_key: str
    events: int
    tasks_queued: int
    tasks_running: int
    states: int
    uptime_ms: int
    processes: _containers.RepeatedCompositeFieldContainer[Process]
    settings: _containers.ScalarMap[str, str]
    data_dir: str
    def __init__(self, version: _Optional[str] = ..., origin: _Optional[str] = ..., node_key: _Optional[str] = ..., events: _Optional[int] = ..., tasks_queued: _Optional[int] = ..., tasks_running: _Optional[int] = ..., states: _Optional[int] = ..., uptime_ms: _Optional[int] = ..., processes: _Optional[_Iterable[_Union[Process, _Mapping]]] = ..., settings: _Optional[_Mapping[str, str]] = ..., data_dir: _Optional[str] = ...) -> None: ...

class Process(_message.Message):
    __slots__ = ("name", "pid", "restarts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    pid: int
    restarts: int
    def __init__(self, name: _Optional[str] = ..., pid: _Optional[int] = ..., restarts: _Optional[int] = ...) -> None: ...

class GetGuidanceRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetChangeReceiptRequest(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: str
    def __init__(self, change: _Optional[str] = ...) -> None: ...

class Guidance(_message.Message):
    __slots__ = ("tier", "why", "workers")
    TIER_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    tier: str
    why: str
    workers: _containers.RepeatedCompositeFieldContainer[GuidedWorker]
    def __init__(self, tier: _Optional[str] = ..., why: _Optional[str] = ..., workers: _Optional[_Iterable[_Union[GuidedWorker, _Mapping]]] = ...) -> None: ...

class GuidedWorker(_message.Message):
    __slots__ = ("registered", "kernel_hints", "psi_hints", "timer_hints", "dropped", "acknowledged", "yields", "deferred", "looks", "critical_looks", "latencies", "own_hints")
    class AcknowledgedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    KERNEL_HINTS_FIELD_NUMBER: _ClassVar[int]
    PSI_HINTS_FIELD_NUMBER: _ClassVar[int]
    TIMER_HINTS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    YIELDS_FIELD_NUMBER: _ClassVar[int]
    DEFERRED_FIELD_NUMBER: _ClassVar[int]
    LOOKS_FIELD_NUMBER: _ClassVar[int]
    CRITICAL_LOOKS_FIELD_NUMBER: _ClassVar[int]
    LATENCIES_FIELD_NUMBER: _ClassVar[int]
    OWN_HINTS_FIELD_NUMBER: _ClassVar[int]
    registered: bool
    kernel_hints: int
    psi_hints: int
    timer_hints: int
    dropped: int
    acknowledged: _containers.ScalarMap[str, int]
    yields: int
    deferred: int
    looks: int
    critical_looks: int
    latencies: _containers.RepeatedCompositeFieldContainer[LatencyBucket]
    own_hints: int
    def __init__(self, registered: bool = ..., kernel_hints: _Optional[int] = ..., psi_hints: _Optional[int] = ..., timer_hints: _Optional[int] = ..., dropped: _Optional[int] = ..., acknowledged: _Optional[_Mapping[str, int]] = ..., yields: _Optional[int] = ..., deferred: _Optional[int] = ..., looks: _Optional[int] = ..., critical_looks: _Optional[int] = ..., latencies: _Optional[_Iterable[_Union[LatencyBucket, _Mapping]]] = ..., own_hints: _Optional[int] = ...) -> None: ...

class LatencyBucket(_message.Message):
    __slots__ = ("up_to_ns", "count")
    UP_TO_NS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    up_to_ns: int
    count: int
    def __init__(self, up_to_ns: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class ListTasksRequest(_message.Message):
    __slots__ = ("limit", "before", "alive")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    limit: int
    before: int
    alive: bool
    def __init__(self, limit: _Optional[int] = ..., before: _Optional[int] = ..., alive: bool = ...) -> None: ...

class GetTaskRequest(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("task_id", "state", "artifact_digest", "artifact_name", "submitter", "accepted_unix_nano", "started_unix_nano", "ended_unix_nano", "end", "waiting", "limits", "traceparent")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_NAME_FIELD_NUMBER: _ClassVar[int]
    SUBMITTER_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    STARTED_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    ENDED_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    state: _control_pb2.TaskState
    artifact_digest: str
    artifact_name: str
    submitter: str
    accepted_unix_nano: int
    started_unix_nano: int
    ended_unix_nano: int
    end: _control_pb2.TaskEnd
    waiting: str
    limits: _control_pb2.Resources
    traceparent: str
    def __init__(self, task_id: _Optional[str] = ..., state: _Optional[_Union[_control_pb2.TaskState, str]] = ..., artifact_digest: _Optional[str] = ..., artifact_name: _Optional[str] = ..., submitter: _Optional[str] = ..., accepted_unix_nano: _Optional[int] = ..., started_unix_nano: _Optional[int] = ..., ended_unix_nano: _Optional[int] = ..., end: _Optional[_Union[_control_pb2.TaskEnd, _Mapping]] = ..., waiting: _Optional[str] = ..., limits: _Optional[_Union[_control_pb2.Resources, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: bytes
    def __init__(self, file: _Optional[bytes] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ReadBlobRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class PutBlobResponse(_message.Message):
    __slots__ = ("digest", "bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    bytes: int
    def __init__(self, digest: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class DeployPart(_message.Message):
    __slots__ = ("head", "plan", "sealed")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    head: DeployHead
    plan: bytes
    sealed: bytes
    def __init__(self, head: _Optional[_Union[DeployHead, _Mapping]] = ..., plan: _Optional[bytes] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class DeployHead(_message.Message):
    __slots__ = ("node", "approvals")
    NODE_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    node: str
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    def __init__(self, node: _Optional[str] = ..., approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("text", "signature")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    text: bytes
    signature: bytes
    def __init__(self, text: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class DeployStep(_message.Message):
    __slots__ = ("deploy", "plan_digest", "node", "approvers", "said", "outcome", "why")
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    SAID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    deploy: str
    plan_digest: str
    node: str
    approvers: _containers.RepeatedScalarFieldContainer[str]
    said: str
    outcome: str
    why: str
    def __init__(self, deploy: _Optional[str] = ..., plan_digest: _Optional[str] = ..., node: _Optional[str] = ..., approvers: _Optional[_Iterable[str]] = ..., said: _Optional[str] = ..., outcome: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class GetDeployReceiptRequest(_message.Message):
    __slots__ = ("deploy",)
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    deploy: str
    def __init__(self, deploy: _Optional[str] = ...) -> None: ...

class GetServicesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Services(_message.Message):
    __slots__ = ("node", "plan_digest", "epoch", "deploying", "stuck", "slots", "now_ms", "unable")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DEPLOYING_FIELD_NUMBER: _ClassVar[int]
    STUCK_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    UNABLE_FIELD_NUMBER: _ClassVar[int]
    node: str
    plan_digest: str
    epoch: int
    deploying: str
    stuck: str
    slots: _containers.RepeatedCompositeFieldContainer[Slot]
    now_ms: int
    unable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., plan_digest: _Optional[str] = ..., epoch: _Optional[int] = ..., deploying: _Optional[str] = ..., stuck: _Optional[str] = ..., slots: _Optional[_Iterable[_Union[Slot, _Mapping]]] = ..., now_ms: _Optional[int] = ..., unable: _Optional[_Iterable[str]] = ...) -> None: ...

class Slot(_message.Message):
    __slots__ = ("slot", "release", "because", "because_word", "instances")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_WORD_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    slot: str
    release: str
    because: str
    because_word: str
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    def __init__(self, slot: _Optional[str] = ..., release: _Optional[str] = ..., because: _Optional[str] = ..., because_word: _Optional[str] = ..., instances: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("instance", "slot", "release", "image_digest", "state", "since_ms", "restarts", "reason", "said", "serving", "address", "began", "began_why")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SAID_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    BEGAN_FIELD_NUMBER: _ClassVar[int]
    BEGAN_WHY_FIELD_NUMBER: _ClassVar[int]
    instance: str
    slot: str
    release: str
    image_digest: str
    state: str
    since_ms: int
    restarts: int
    reason: str
    said: str
    serving: bool
    address: str
    began: str
    began_why: str
    def __init__(self, instance: _Optional[str] = ..., slot: _Optional[str] = ..., release: _Optional[str] = ..., image_digest: _Optional[str] = ..., state: _Optional[str] = ..., since_ms: _Optional[int] = ..., restarts: _Optional[int] = ..., reason: _Optional[str] = ..., said: _Optional[str] = ..., serving: bool = ..., address: _Optional[str] = ..., began: _Optional[str] = ..., began_why: _Optional[str] = ...) -> None: ...

class ReadLogRequest(_message.Message):
    __slots__ = ("target", "follow")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    target: str
    follow: bool
    def __init__(self, target: _Optional[str] = ..., follow: bool = ..., **kwargs) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("instance", "number", "unix_nano", "stream", "line", "cut", "dropped")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    instance: str
    number: int
    unix_nano: int
    stream: str
    line: bytes
    cut: bool
    dropped: int
    def __init__(self, instance: _Optional[str] = ..., number: _Optional[int] = ..., unix_nano: _Optional[int] = ..., stream: _Optional[str] = ..., line: _Optional[bytes] = ..., cut: bool = ..., dropped: _Optional[int] = ...) -> None: ...

class ExecInput(_message.Message):
    __slots__ = ("start", "data", "end", "resize", "signal")
    START_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    start: ExecStart
    data: bytes
    end: bool
    resize: Window
    signal: int
    def __init__(self, start: _Optional[_Union[ExecStart, _Mapping]] = ..., data: _Optional[bytes] = ..., end: bool = ..., resize: _Optional[_Union[Window, _Mapping]] = ..., signal: _Optional[int] = ...) -> None: ...

class ExecStart(_message.Message):
    __slots__ = ("target", "argv", "env", "user", "workdir", "terminal")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ARGV_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    target: str
    argv: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    user: str
    workdir: str
    terminal: Window
    def __init__(self, target: _Optional[str] = ..., argv: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., user: _Optional[str] = ..., workdir: _Optional[str] = ..., terminal: _Optional[_Union[Window, _Mapping]] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("rows", "columns")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ...) -> None: ...

class ExecOutput(_message.Message):
    __slots__ = ("instance", "stdout", "stderr", "end")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    instance: str
    stdout: bytes
    stderr: bytes
    end: ExecEnd
    def __init__(self, instance: _Optional[str] = ..., stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., end: _Optional[_Union[ExecEnd, _Mapping]] = ...) -> None: ...

class ExecEnd(_message.Message):
    __slots__ = ("code", "signal", "failed")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    code: int
    signal: int
    failed: str
    def __init__(self, code: _Optional[int] = ..., signal: _Optional[int] = ..., failed: _Optional[str] = ...) -> None: ...

class SetSlotRequest(_message.Message):
    __slots__ = ("slot", "wish")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    WISH_FIELD_NUMBER: _ClassVar[int]
    slot: str
    wish: str
    def __init__(self, slot: _Optional[str] = ..., wish: _Optional[str] = ...) -> None: ...

class SetSlotResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListStatesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class State(_message.Message):
    __slots__ = ("state_id", "name", "submitter", "bytes_max", "tasks", "created_unix_nano")
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUBMITTER_FIELD_NUMBER: _ClassVar[int]
    BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    state_id: str
    name: str
    submitter: str
    bytes_max: int
    tasks: int
    created_unix_nano: int
    def __init__(self, state_id: _Optional[str] = ..., name: _Optional[str] = ..., submitter: _Optional[str] = ..., bytes_max: _Optional[int] = ..., tasks: _Optional[int] = ..., created_unix_nano: _Optional[int] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("limit", "follow")
    FROM_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    limit: int
    follow: bool
    def __init__(self, limit: _Optional[int] = ..., follow: bool = ..., **kwargs) -> None: ...

class Event(_message.Message):
    __slots__ = ("seq", "leaf", "hash")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    seq: int
    leaf: bytes
    hash: bytes
    def __init__(self, seq: _Optional[int] = ..., leaf: _Optional[bytes] = ..., hash: _Optional[bytes] = ...) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("text", "signature")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    text: str
    signature: str
    def __init__(self, text: _Optional[str] = ..., signature: _Optional[str] = ...) -> None: ...
