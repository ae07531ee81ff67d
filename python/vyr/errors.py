"""What a node refuses, as exceptions: one class a category, with what to do next."""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, Optional, Tuple, Type, Union

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from vyr.control.v0 import control_pb2 as pb

_DETAILS = "grpc-status-details-bin"
_OUR_TYPE = "type.googleapis.com/vyr.control.v0.Error"


class Error(Exception):
    """A refusal. `str(error)` is the message; `hint` is the reader's next move."""

    def __init__(
        self,
        message: str,
        *,
        category: str = "internal",
        hint: str = "",
        retryable: bool = False,
        retry_after: Optional[float] = None,
        code: Optional[grpc.StatusCode] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        #: usage, auth, not_found, conflict, transient, failure, internal, or a closer word.
        self.category = category
        self.hint = hint
        #: Whether the same call may succeed later.
        self.retryable = retryable
        #: When it may, in seconds from now, if the node said so.
        self.retry_after = retry_after
        self.code = code


class UsageError(Error):
    """A value makes no sense."""


class UnsupportedArtifact(UsageError):
    """A container image, or another thing that is no Wasm artifact."""


class AuthError(Error):
    """Not allowed, or not signed by anybody the node trusts."""


class NotFound(Error):
    """There is no such thing."""


class Conflict(Error):
    """Not in the state it is in."""


class Transient(Error):
    """May succeed later: the node is away, stopping or too slow."""


class ResourceExhausted(Transient):
    """Too much waits already; `retry_after` says when to come back."""


class DeadlineExceeded(Transient, TimeoutError):
    """The time given was over. What was accepted goes on."""


_CLASSES: Dict[str, Type[Error]] = {
    "usage": UsageError,
    "unsupported_artifact": UnsupportedArtifact,
    "auth": AuthError,
    "not_found": NotFound,
    "conflict": Conflict,
    "transient": Transient,
    "resource_exhausted": ResourceExhausted,
}

# For statuses that carry no error of ours, such as those of the transport.
_CATEGORIES: Dict[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAVAILABLE: "transient",
    grpc.StatusCode.DEADLINE_EXCEEDED: "transient",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "resource_exhausted",
    grpc.StatusCode.PERMISSION_DENIED: "auth",
    grpc.StatusCode.UNAUTHENTICATED: "auth",
    grpc.StatusCode.INVALID_ARGUMENT: "usage",
    grpc.StatusCode.OUT_OF_RANGE: "usage",
    grpc.StatusCode.UNIMPLEMENTED: "usage",
    grpc.StatusCode.NOT_FOUND: "not_found",
    grpc.StatusCode.FAILED_PRECONDITION: "conflict",
}

_CODES: Dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_message(error: pb.Error) -> Error:
    """The exception for an error that came as data."""
    code = _CODES.get(error.code)
    kind = _CLASSES.get(error.category, Error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        kind = DeadlineExceeded
    return kind(
        error.message,
        category=error.category,
        hint=error.hint,
        retryable=error.retryable,
        retry_after=error.retry_after_ms / 1000 if error.retry_after_ms else None,
        code=code,
    )


def from_rpc(raised: grpc.RpcError) -> Error:
    """The exception for a call that failed."""
    code = raised.code() if isinstance(raised, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = raised.details() if isinstance(raised, grpc.Call) else str(raised)
    metadata: Iterable[Tuple[str, Union[str, bytes]]] = ()
    if isinstance(raised, grpc.Call):
        metadata = raised.trailing_metadata() or ()
    for key, value in metadata:
        if key == _DETAILS and isinstance(value, bytes):
            ours = _our_error(value)
            if ours is not None:
                return from_message(ours)
    category = _CATEGORIES.get(code, "internal")
    kind = _CLASSES.get(category, Error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        kind = DeadlineExceeded
    retryable = category == "transient"
    return kind(details or code.name, category=category, retryable=retryable, code=code)


def _our_error(status: bytes) -> Optional[pb.Error]:
    """Our error in a `google.rpc.Status`, whose third field is a list of `Any`."""
    try:
        for field, value in _length_delimited(status):
            if field == 3:
                detail = AnyMessage.FromString(value)
                if detail.type_url == _OUR_TYPE:
                    return pb.Error.FromString(detail.value)
    except (DecodeError, IndexError):
        pass
    return None


def _length_delimited(message: bytes) -> Iterator[Tuple[int, bytes]]:
    """The fields of a message that hold bytes; `IndexError` when it is cut off."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 2:
            length = varint()
            if at + length > len(message):
                raise IndexError(at)
            yield key >> 3, message[at : at + length]
            at += length
        elif key & 7 == 0:
            varint()
        else:
            at += 8 if key & 7 == 1 else 4
