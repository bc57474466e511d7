"""Where the model runs, and in which precision."""

import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from core.errors import SettingsError
from core.manifest import Precision

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Compute:
    """Where and how ONNX Runtime runs."""

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """Best first."""
    threads: int = 0
    """That one run may use; 0 means one per core."""
    spin: bool = False
    """Whether threads that wait for each other within a run spin."""

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where arrays must be, as ONNX Runtime calls it."""
        return "cuda" if self.providers[0] == "CUDAExecutionProvider" else "cpu"

    def with_options(self) -> list[str | tuple[str, dict[str, str]]]:
        """The providers as a session takes them.

        TensorFloat-32 would round float32 products to 10 bits: scores would differ in the third
        digit. Who wants speed has fp16.
        """
        return [
            (name, {"use_tf32": "0"}) if name == "CUDAExecutionProvider" else name
            for name in self.providers
        ]

    def session_options(self) -> ort.SessionOptions:
        """The one tuned set of options; `docs/decoding.md` has the measurements.

        Threads that spin pass work on faster, but when another process needs their core, all wait
        for the one that lost it, which costs several times what was gained. They never spin between
        runs.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        entry = options.add_session_config_entry
        entry("session.intra_op.allow_spinning", "1" if self.spin else "0")
        entry("session.force_spinning_stop", "1")
        return options


def execution_providers(device: Device) -> tuple[str, ...]:
    """The providers for a device, best first.

    Raises:
        SettingsError: CUDA is asked for and this build or machine has none.
    """
    has_cuda = "CUDAExecutionProvider" in ort.get_available_providers() and _has_device()
    if device == "cuda" and not has_cuda:
        raise SettingsError(
            "--device cuda: ONNX Runtime sees no GPU here; install onnxruntime-gpu and a driver, "
            "or use --device cpu"
        )
    if has_cuda and device != "cpu":
        return ("CUDAExecutionProvider", "CPUExecutionProvider")
    return ("CPUExecutionProvider",)


def choose_precision(
    asked: Literal["auto"] | Precision, held: Collection[Precision], compute: Compute
) -> Precision:
    """The precision to serve: what was asked for, or the fastest that suits the device.

    Raises:
        SettingsError: the bundle does not hold it, or the device cannot run it.
    """
    if asked == "auto":
        order: tuple[Precision, ...]
        if compute.device == "cuda":
            order = ("fp16", "fp32")
        else:
            order = ("int8", "fp32") if multiplies_bytes() else ("fp32",)
        return next((precision for precision in order if precision in held), "fp32")
    if asked not in held:
        raise SettingsError(
            f"--precision {asked}: the bundle holds {', '.join(sorted(held))}; "
            "build it with another --precision, or leave the choice to auto"
        )
    if asked == "int8" and compute.device == "cuda":
        raise SettingsError("--precision int8 is for CPUs; use fp16 or fp32 with a GPU")
    return asked


def multiplies_bytes() -> bool:
    """Whether this CPU multiplies 8-bit integers without loss and faster than floats.

    x86 needs VNNI: older instructions saturate at 16 bits. 64-bit ARM has them since 2017.
    """
    if platform.machine() in ("aarch64", "arm64"):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(name in flags for name in ("avx512_vnni", "avx_vnni"))


def _has_device() -> bool:
    """Whether there is a GPU: the GPU build lists its provider on machines that have none."""
    return any(device.ep_name == "CUDAExecutionProvider" for device in ort.get_ep_devices())
