"""Which dtype matrix products run in."""

import torch


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 where asked for, or where ``auto`` finds hardware for it; else float32.

    Args:
        precision: "bf16", "fp32" or "auto".
        device: where the products run.
    """
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
