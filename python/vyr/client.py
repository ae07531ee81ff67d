"""The client: one connection, the seven calls, and what an operator reads besides."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import grpc

from vyr.control.v0 import control_pb2 as pb
from vyr.errors import DeadlineExceeded, Error, Transient, from_message, from_rpc
from vyr.model import (
    End,
    Metrics,
    Put,
    Resources,
    Span,
    Submission,
    end_of,
    metrics_of,
    mode_of,
    request_of,
    span_of,
    state_word,
)
from vyr.operator.v0 import operator_pb2 as op

#: Messages up to this size are taken: the largest is a chunk of a blob.
_MESSAGE_BYTES_MAX = 4 << 20
#: Bytes of a blob in one message.
_CHUNK_BYTES = 256 << 10


class Task:
    """A task that was accepted."""

    def __init__(self, client: Client, task_id: str) -> None:
        self._client = client
        self.task_id = task_id

    def __repr__(self) -> str:
        return f"Task({self.task_id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and other.task_id == self.task_id

    def __hash__(self) -> int:
        return hash(self.task_id)

    def wait(self, timeout: Optional[float] = None) -> End:
        """Waits for its end; `DeadlineExceeded` (a `TimeoutError`) after `timeout` seconds."""
        return self._client.wait(self.task_id, timeout)

    def cancel(self) -> str:
        """Ends it early; the state it is in at this moment. A task that has ended stays so."""
        return self._client.cancel(self.task_id)

    def output(self) -> bytes:
        """What it wrote (operators only)."""
        return self._client.output(self.task_id)

    def log(self) -> bytes:
        """The last of its standard error (operators only)."""
        return self._client.log(self.task_id)

    def receipt(self) -> bytes:
        """Its receipt, for `vyr verify` (operators only)."""
        return self._client.receipt(self.task_id)


class Client:
    """A connection to a node.

    `target`: a socket's path or `HOST:PORT`; without it, the node's sockets are looked for where
    the command `vyr` looks: `$VYR_DATA_DIR/run`, `$XDG_RUNTIME_DIR/vyr`, `/run/vyr`. A network
    target needs certificates of both sides (PEM). `timeout`, in seconds, is for calls that
    answer once.
    """

    def __init__(
        self,
        target: Optional[str] = None,
        *,
        root_certificates: Optional[bytes] = None,
        private_key: Optional[bytes] = None,
        certificate_chain: Optional[bytes] = None,
        server_name: Optional[str] = None,
        timeout: float = 30.0,
    ) -> None:
        at = _find() if target is None else target
        options: List[Tuple[str, Any]] = [
            ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if at.startswith(("/", "./", "unix:")):
            path = at if at.startswith("unix:") else "unix:" + os.path.abspath(at)
            options.append(("grpc.default_authority", "vyr.invalid"))
            self._channel = grpc.insecure_channel(path, options=options)
        else:
            if not (root_certificates and private_key and certificate_chain):
                raise ValueError("a network target needs certificates of both sides")
            if server_name is not None:
                options.append(("grpc.ssl_target_name_override", server_name))
            tls = grpc.ssl_channel_credentials(root_certificates, private_key, certificate_chain)
            self._channel = grpc.secure_channel(at, tls, options=options)
        self._timeout = timeout
        control, operator = "/vyr.control.v0.Control/", "/vyr.operator.v0.Operator/"
        channel = self._channel
        self._put_artifact = channel.stream_unary(
            control + "PutArtifact",
            pb.PutArtifactRequest.SerializeToString,
            pb.PutArtifactResponse.FromString,
        )
        self._submit_task = channel.stream_stream(
            control + "SubmitTask",
            pb.SubmitTaskRequest.SerializeToString,
            pb.SubmitTaskResponse.FromString,
        )
        self._cancel_task = channel.unary_unary(
            control + "CancelTask",
            pb.CancelTaskRequest.SerializeToString,
            pb.CancelTaskResponse.FromString,
        )
        self._create_state = channel.unary_unary(
            control + "CreateState",
            pb.CreateStateRequest.SerializeToString,
            pb.CreateStateResponse.FromString,
        )
        self._bind_state = channel.unary_unary(
            control + "BindState",
            pb.BindStateRequest.SerializeToString,
            pb.BindStateResponse.FromString,
        )
        self._stream_traces = channel.unary_stream(
            control + "StreamTraces",
            pb.StreamTracesRequest.SerializeToString,
            pb.Span.FromString,
        )
        self._stream_metrics = channel.unary_stream(
            control + "StreamMetrics",
            pb.StreamMetricsRequest.SerializeToString,
            pb.Metrics.FromString,
        )
        self._get_output = channel.unary_stream(
            operator + "GetOutput", op.GetTaskRequest.SerializeToString, op.Chunk.FromString
        )
        self._get_log = channel.unary_unary(
            operator + "GetLog", op.GetTaskRequest.SerializeToString, op.Chunk.FromString
        )
        self._get_receipt = channel.unary_unary(
            operator + "GetReceipt", op.GetTaskRequest.SerializeToString, op.Receipt.FromString
        )
        self._read_blob = channel.unary_stream(
            operator + "ReadBlob", op.ReadBlobRequest.SerializeToString, op.Chunk.FromString
        )
        self._put_blob = channel.stream_unary(
            operator + "PutBlob", op.Chunk.SerializeToString, op.PutBlobResponse.FromString
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and every stream on it."""
        self._channel.close()

    # Artifacts

    def put_artifact(
        self, manifest: bytes, signature: Union[bytes, str], blobs: Iterable[bytes]
    ) -> Put:
        """Stores a signed artifact: its manifest, an armored SSH signature, and all its blobs."""
        armored = signature.encode() if isinstance(signature, str) else signature
        digest = digest_of(manifest)

        def messages() -> Iterator[pb.PutArtifactRequest]:
            head = pb.ArtifactHead(digest=digest, manifest=manifest, signature=armored)
            yield pb.PutArtifactRequest(head=head)
            for blob in blobs:
                yield pb.PutArtifactRequest(blob_digest=digest_of(blob))
                for piece in _pieces(blob):
                    yield pb.PutArtifactRequest(chunk=piece)

        try:
            put = self._put_artifact(messages(), timeout=self._timeout)
        except grpc.RpcError as raised:
            raise from_rpc(raised) from raised
        return Put(put.digest, put.signer, put.existed)

    # Tasks

    def submit(
        self,
        artifact: str,
        input: Union[bytes, str] = b"",
        *,
        key: Optional[str] = None,
        resources: Optional[Resources] = None,
        states: Sequence[Tuple[str, str]] = (),
        traceparent: Optional[str] = None,
    ) -> Task:
        """Submits one task; returns once its acceptance is durable.

        `input`: at most 64 KiB, or the digest (a string) of bytes in the store. With a `key`, the
        same submission gives the same task however often it is made.
        """
        task = Submission(artifact, input, key, resources, states, traceparent)
        try:
            call = self._submit_task(iter((request_of(task),)), timeout=self._timeout)
            answer = next(iter(call), None)
        except grpc.RpcError as raised:
            raise from_rpc(raised) from raised
        if answer is None:
            raise Transient("the node did not answer a submission", category="transient")
        task_or_error = self._answer(answer)
        if isinstance(task_or_error, Error):
            raise task_or_error
        return task_or_error

    def submit_many(
        self, tasks: Iterable[Submission], *, window: int = 256
    ) -> Iterator[Union[Task, Error]]:
        """Submits over one stream, and yields one answer a submission, in order.

        A refused one is yielded, not raised, and does not end the stream. At most `window` are
        under way: `tasks` is read as answers are taken.
        """
        if window < 1:
            raise ValueError("a window is at least 1")
        room = threading.Semaphore(window)
        ended = threading.Event()
        broken: List[BaseException] = []

        def messages() -> Iterator[pb.SubmitTaskRequest]:
            # In a thread of grpc's: what the caller's iterator raises is raised again below.
            try:
                for task in tasks:
                    room.acquire()
                    if ended.is_set():
                        return
                    yield request_of(task)
            except Exception as raised:
                broken.append(raised)

        call: Any = self._submit_task(messages())
        try:
            for answer in call:
                room.release()
                yield self._answer(answer)
        except grpc.RpcError as raised:
            raise from_rpc(raised) from raised
        finally:
            ended.set()
            room.release()
            call.cancel()
        if broken:
            raise broken[0]

    def _answer(self, answer: pb.SubmitTaskResponse) -> Union[Task, Error]:
        if answer.WhichOneof("result") == "task_id":
            return Task(self, answer.task_id)
        return from_message(answer.error)

    def task(self, task_id: str) -> Task:
        """A task by its id, not asked for yet."""
        return Task(self, task_id)

    def wait(self, task_id: str, timeout: Optional[float] = None) -> End:
        """Waits for a task's end."""
        request = pb.StreamTracesRequest(
            filter=pb.TraceFilter(task_ids=[task_id], terminal_only=True)
        )
        for span in self._read(self._stream_traces, request, timeout):
            if span.HasField("end"):
                return end_of(span.end)
        raise Transient("the node went away before the task ended", category="transient")

    def cancel(self, task_id: str) -> str:
        """Ends a task early; the state it is in at this moment."""
        answer = self._once(self._cancel_task, pb.CancelTaskRequest(task_id=task_id))
        return state_word(answer.state)

    # States

    def create_state(self, name: str, *, bytes_max: int = 0) -> str:
        """Makes an ephemeral state; its id."""
        request = pb.CreateStateRequest(name=name, bytes_max=bytes_max)
        state_id: str = self._once(self._create_state, request).state_id
        return state_id

    def bind_state(self, task: Union[Task, str], state_id: str, mode: str = "rw") -> None:
        """Binds a state to a task that has not begun."""
        request = pb.BindStateRequest(
            task_id=task.task_id if isinstance(task, Task) else task,
            state_id=state_id,
            mode=mode_of(mode),
        )
        self._once(self._bind_state, request)

    # Watching

    def traces(
        self,
        tasks: Iterable[Union[Task, str]] = (),
        *,
        artifact: str = "",
        terminal_only: bool = False,
        live_only: bool = False,
        with_statement: bool = False,
        timeout: Optional[float] = None,
    ) -> Iterator[Span]:
        """Spans: those the journal still holds, then live ones; with `tasks`, to their ends."""
        wanted = pb.TraceFilter(
            task_ids=[task.task_id if isinstance(task, Task) else task for task in tasks],
            artifact_digest=artifact,
            terminal_only=terminal_only,
            live_only=live_only,
            with_statement=with_statement,
        )
        request = pb.StreamTracesRequest(filter=wanted)
        for span in self._read(self._stream_traces, request, timeout):
            yield span_of(span)

    def metrics(
        self, prefix: str = "", *, interval: float = 1.0, timeout: Optional[float] = None
    ) -> Iterator[Metrics]:
        """A snapshot of metrics, then what changed, every `interval` seconds."""
        wanted = pb.MetricFilter(name_prefix=prefix, interval_ms=round(interval * 1000))
        request = pb.StreamMetricsRequest(filter=wanted)
        for metrics in self._read(self._stream_metrics, request, timeout):
            yield metrics_of(metrics)

    # What only an operator reads

    def output(self, task_id: str) -> bytes:
        """The output of a task that ended."""
        return self._bytes(self._get_output, op.GetTaskRequest(task_id=task_id))

    def log(self, task_id: str) -> bytes:
        """The last of the standard error of a task that ended."""
        data: bytes = self._once(self._get_log, op.GetTaskRequest(task_id=task_id)).data
        return data

    def receipt(self, task_id: str) -> bytes:
        """The receipt of a task that ended, as one file."""
        file: bytes = self._once(self._get_receipt, op.GetTaskRequest(task_id=task_id)).file
        return file

    def read_blob(self, digest: str) -> bytes:
        """Bytes of the store or the journal."""
        return self._bytes(self._read_blob, op.ReadBlobRequest(digest=digest))

    def put_blob(self, data: bytes) -> str:
        """Stores bytes, to be submitted by the digest that is returned."""
        try:
            chunks = (op.Chunk(data=piece) for piece in _pieces(data))
            digest: str = self._put_blob(chunks, timeout=self._timeout).digest
        except grpc.RpcError as raised:
            raise from_rpc(raised) from raised
        return digest

    # Underneath

    def _once(self, call: Callable[..., Any], request: Any) -> Any:
        try:
            return call(request, timeout=self._timeout)
        except grpc.RpcError as raised:
            raise from_rpc(raised) from raised

    def _read(
        self, call: Callable[..., Any], request: Any, timeout: Optional[float]
    ) -> Iterator[Any]:
        stream = call(request, timeout=timeout)
        try:
            yield from stream
        except grpc.RpcError as raised:
            error = from_rpc(raised)
            if timeout is not None and isinstance(error, DeadlineExceeded):
                error.message = f"not within {timeout} s"
            raise error from raised
        finally:
            stream.cancel()

    def _bytes(self, call: Callable[..., Any], request: Any) -> bytes:
        return b"".join(chunk.data for chunk in self._read(call, request, self._timeout))


def digest_of(data: bytes) -> str:
    """The name that the store has for bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


def _find() -> str:
    """The first socket that a node listens on; the operator's where this user may open it."""
    named = os.environ.get("VYR_DATA_DIR")
    if named:
        directories = [os.path.join(named, "run")]
    else:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        own = [os.path.join(runtime, "vyr")] if os.path.isabs(runtime) else []
        directories = own + ["/run/vyr"]
    for directory in directories:
        for name in ("operator.sock", "control.sock"):
            path = os.path.join(directory, name)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(path)
                except OSError:
                    continue
            return path
    raise Transient(
        "no node is running here",
        category="transient",
        hint="start one: vyr up",
        retryable=True,
    )
