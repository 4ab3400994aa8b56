"""Why a request is not served, as its client is told over gRPC and REST alike."""

from __future__ import annotations

import logging

from grpc import StatusCode

_LOG = logging.getLogger(__name__)
_UNEXPECTED = "the server failed on this request; its log says why"
_MAX_CHARACTERS = 500
"""Of a message. Much of it may come from the request; gRPC carries 8 KiB, in which a character may take 12 bytes."""


class RequestError(Exception):
    """A request that is not served: TensorFlow Serving's code for it, and one sentence without secrets or paths."""

    def __init__(self, code: StatusCode, message: str) -> None:
        if len(message) > _MAX_CHARACTERS:
            message = f"{message[: _MAX_CHARACTERS - 1]}…"
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> RequestError:
    """The request itself is wrong; sending it again is of no use."""
    return RequestError(StatusCode.INVALID_ARGUMENT, message)


def of(error: Exception) -> RequestError:
    """What a client is told of any error. One that is not a RequestError is a fault of ours: it goes to the log."""
    if isinstance(error, RequestError):
        return error
    _LOG.error("a request failed", exc_info=error)
    return RequestError(StatusCode.INTERNAL, _UNEXPECTED)
