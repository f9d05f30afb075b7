"""What an algorithm has to return, as far as it can be seen without waiting for a GPU."""

import torch
from torch import Tensor


def misshapen(result: object, tokens: Tensor, clusters: int) -> str | None:
    """What is wrong with the result of an algorithm for tokens [B, N, D] and K, and what is right; None: nothing seen.

    On a CPU it looks at the numbers too: an index outside of the tokens would end in PyTorch.
    """
    batch, count, _ = tokens.shape
    if not (isinstance(result, tuple | list) and len(result) == 2 and all(isinstance(part, Tensor) for part in result)):
        parts = [type(part).__name__ for part in result] if isinstance(result, tuple | list) else type(result).__name__
        return f"returned {parts}; two tensors are right, kept [B, K] and assignment [B, N]"
    for name, part, length, below in ("kept", result[0], clusters, count), ("assignment", result[1], count, clusters):
        if part.shape != (batch, length) or part.dtype != torch.int64 or part.device != tokens.device:
            right = f"[{batch}, {length}] int64 on {tokens.device}"
            return f"{name} is {list(part.shape)} {str(part.dtype)[6:]} on {part.device}; {right} is right"
        if type(part) is Tensor and part.device.type == "cpu" and ((part < 0) | (part >= below)).any():
            return f"{name} has numbers from {part.min()} to {part.max()}; 0 to {below - 1} is right"
    return None
