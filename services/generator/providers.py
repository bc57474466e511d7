"""ONNX Runtime's execution providers."""

from typing import Literal

import onnxruntime as ort

from runtime.errors import SettingsError

Device = Literal["auto", "cpu", "cuda"]


def execution_providers(device: Device) -> list[str]:
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
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def _has_device() -> bool:
    """Whether there is a GPU: the GPU build lists its provider on machines that have none."""
    return any(device.ep_name == "CUDAExecutionProvider" for device in ort.get_ep_devices())
