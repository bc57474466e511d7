"""What travels to a caller is what was raised, and the client reads it back."""

import base64
from urllib.parse import quote

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import errors
from core.errors import TandemError
from serving.boundary.status import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES, to_status
from tandem import errors as client_errors
from tandem.errors import from_rpc

CASES = [
    (errors.InvalidArgument, client_errors.InvalidArgument),
    (errors.NotFound, client_errors.NotFound),
    (errors.FailedPrecondition, client_errors.FailedPrecondition),
    (errors.ResourceExhausted, client_errors.ResourceExhausted),
    (errors.DeadlineExceeded, client_errors.DeadlineExceeded),
    (errors.Unavailable, client_errors.Unavailable),
    (errors.Internal, client_errors.Internal),
]


def as_received(error: TandemError) -> grpc.aio.AioRpcError:
    status = to_status(error)
    trailing = grpc.aio.Metadata(
        ("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", "r1")
    )
    return grpc.aio.AioRpcError(
        grpc.StatusCode[error.code.name], grpc.aio.Metadata(), trailing, details=status.message
    )


@pytest.mark.parametrize(("raised", "received"), CASES)
def test_an_error_crosses_the_wire(
    raised: type[TandemError], received: type[client_errors.Error]
) -> None:
    failure = from_rpc(as_received(raised("what was wrong", reason="SOME_REASON", field="x")))
    assert type(failure) is received
    assert failure.code.value[0] == raised.code
    assert failure.code.name == raised.code.name
    assert failure.message == "what was wrong"
    assert failure.reason == "SOME_REASON"
    assert failure.metadata == {"field": "x"}
    assert failure.request_id == "r1"
    assert str(failure) == f"{raised.code.name}: what was wrong [SOME_REASON]"


def test_overload_says_when_to_come_back() -> None:
    failure = from_rpc(
        as_received(errors.ResourceExhausted("busy", reason="BUSY", retry_after=0.25))
    )
    assert failure.retry_after == 0.25


def test_every_error_of_the_tree_is_drawn_and_has_a_code() -> None:
    for kind in TandemError.__subclasses__():
        assert f"── {kind.__name__} " in (errors.__doc__ or "")
        assert kind.code.name in (errors.__doc__ or "") or "never sent" in (errors.__doc__ or "")


def test_what_a_caller_sent_is_cut_when_quoted_back() -> None:
    error = errors.InvalidArgument("m" * 100_000, reason="R", attribute="é" * 100_000)
    failure = from_rpc(as_received(error))
    assert failure.message == "m" * (MAX_MESSAGE_BYTES - 3) + "…"
    assert failure.metadata["attribute"] == "é" * ((MAX_METADATA_BYTES - 3) // 2) + "…"
    assert len(to_status(error).SerializeToString()) < 4096


LONG = st.builds(lambda text, times: text * times, st.text(min_size=1), st.integers(1, 2_000))


@given(LONG, st.lists(LONG, max_size=10))
def test_a_status_fits_into_trailers_once_it_is_encoded(message: str, values: list[str]) -> None:
    error = errors.InvalidArgument(message, reason="A_REASON", **{
        f"field_{number}": value for number, value in enumerate(values)
    })  # fmt: skip
    status = to_status(error)
    encoded = quote(status.message, safe="") + base64.b64encode(status.SerializeToString()).decode()
    assert len(encoded) < 7_000
    assert message.startswith(status.message.removesuffix("…"))


def test_a_failure_without_details_is_told_by_its_code() -> None:
    bare = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), None)
    failure = from_rpc(bare)
    assert isinstance(failure, client_errors.Unavailable)
    assert (failure.reason, failure.metadata, failure.request_id) == ("", {}, "")
    other = grpc.aio.AioRpcError(grpc.StatusCode.DATA_LOSS, grpc.aio.Metadata(), None)
    assert type(from_rpc(other)) is client_errors.Error
