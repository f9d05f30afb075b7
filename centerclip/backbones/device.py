"""The device that computes, and its precision."""

import ctypes
import math
import os
import platform
from functools import cache

import torch

from centerclip.command import UserError, first_line, tell


def pick_device() -> torch.device:
    """The GPU if there is one, else the CPU. TF32 is off. Raises UserError for a GPU that PyTorch cannot use."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    cuda = f"PyTorch {torch.__version__} for CUDA {torch.version.cuda}"
    if torch.cuda.is_available():
        try:
            torch.zeros(1, device="cuda")
        except RuntimeError as error:  # such as a build without kernels for a GPU as old as this
            raise UserError(f"{cuda} cannot use {torch.cuda.get_device_name()}: {first_line(error)}") from None
        return torch.device("cuda")
    if os.environ.get("CUDA_VISIBLE_DEVICES", "-1") not in ("", "-1"):
        tell(f"warning: {cuda} cannot use the GPU of this job, whose driver may be too old: going on without")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """What to call `device` in a result."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"


@cache
def nvml() -> ctypes.CDLL | None:
    """NVIDIA's management library, which comes with the driver; None without it."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return library if library.nvmlInit_v2() == 0 else None


def joules(device: torch.device) -> float:
    """The energy that a GPU has taken for all processes since its driver was loaded; nan where the device does not
    tell: a CPU, a MIG instance, a GPU before Volta."""
    if device.type != "cuda" or (library := nvml()) is None:
        return math.nan
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    gpu, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    failed = library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(gpu))
    failed = failed or library.nvmlDeviceGetTotalEnergyConsumption(gpu, ctypes.byref(millijoules))
    return math.nan if failed else millijoules.value / 1000


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether `device` has matrix units for bfloat16, as GPUs have since Ampere and some CPUs (AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def lowered(device: torch.device, precision: str) -> torch.dtype | None:
    """The dtype of matrix products on `device` for a `precision` of float32, bfloat16 or float16; None: float32, as on
    a CPU unless it `multiplies_bfloat16`."""
    if device.type == "cuda":
        return None if precision == "float32" else getattr(torch, precision)
    return torch.bfloat16 if precision == "bfloat16" and multiplies_bfloat16(device) else None


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which models run on `device` in `precision`."""
    dtype = lowered(device, precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def computed_in(device: torch.device, precision: str) -> str:
    """The precision of models on `device`, in words."""
    parts = [f"{precision} autocast"] * bool(lowered(device, precision))
    return ", ".join([*parts, "float32 without TF32" if device.type == "cuda" else "float32"])
