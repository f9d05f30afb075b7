"""What computes, and in which precision."""

import os
import platform

import torch

from centerclip.command import tell


def pick_device() -> torch.device:
    """The GPU if there is one. TF32 is off: what is not 16 bits wide under autocast is float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("CUDA_VISIBLE_DEVICES", "-1") not in ("", "-1"):
        cuda = f"PyTorch {torch.__version__} for CUDA {torch.version.cuda}"
        tell(f"warning: {cuda} cannot use the GPU of this job, whose driver may be too old: going on without")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """What to call `device` in a result."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision on a GPU, bfloat16 where it has that in hardware and float16 elsewhere; float32 on a CPU."""
    gpu = device.type == "cuda"
    dtype = torch.float16 if gpu and not torch.cuda.is_bf16_supported(including_emulation=False) else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=gpu)


def precision(device: torch.device) -> str:
    """What models compute in on `device`, in words."""
    if device.type == "cpu":
        return "float32"
    return f"{str(autocast(device).fast_dtype).removeprefix('torch.')} autocast, float32 without TF32 elsewhere"
