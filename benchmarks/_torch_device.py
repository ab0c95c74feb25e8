"""PyTorch on the device that JAX computes on, with float32 matrix products rounded as there."""

import time

import jax
import numpy as np
import torch

DEVICE = "cuda" if jax.default_backend() == "gpu" else "cpu"
torch.set_num_threads(2)
if DEVICE == "cuda":  # JAX's products of float32 are TF32 on a GPU, PyTorch's only if it is told
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def tensor(x):
    return torch.tensor(np.array(x), device=DEVICE)


def now():
    """Seconds, once all that was asked for is done."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
