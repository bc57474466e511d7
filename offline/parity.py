"""Exporting torch modules to ONNX, and what is wrong when the two disagree."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class ParityError(RuntimeError):
    """The exported graph does not compute what the torch model computes."""


@contextmanager
def quiet_tracer() -> Iterator[None]:
    """Silences the TorchScript exporter: its warnings are about what parity is checked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
