"""The fits of `gpu.py` in PyTorch: a log ratio by random features, a density, a Gaussian."""

import math

import torch
from _torch_device import DEVICE, now, tensor


def _features(waves, xs):
    """Monomials up to degree 2, the constant first, then waves; all in memory at once."""
    i, j = torch.triu_indices(xs.shape[1], xs.shape[1], device=xs.device)
    angles = xs @ waves
    parts = [torch.ones_like(xs[:, :1]), xs, xs[:, i] * xs[:, j], angles.cos(), angles.sin()]
    return torch.cat(parts, 1)


def log_ratio_field(xs_q, xs_p, features, bandwidth, ridge, newton_steps):
    """Logistic regression by Newton, then the gradient of log p/q at all samples of q."""
    xs_q, xs_p = tensor(xs_q), tensor(xs_p)
    start = now()
    waves = torch.randn(xs_q.shape[1], features // 2, device=DEVICE) / bandwidth
    phi = _features(waves, torch.cat([xs_q, xs_p]))
    labels = torch.cat([torch.zeros_like(xs_q[:, 0]), torch.ones_like(xs_p[:, 0])])
    penalty = torch.full_like(phi[0], ridge)
    penalty[0] = 0.0
    c = torch.zeros_like(phi[0])
    for _ in range(newton_steps + 1):
        r = torch.sigmoid(phi @ c)
        slope = (r - labels) @ phi / len(phi) + penalty * c
        hessian = (phi * (r * (1 - r))[:, None]).T @ phi / len(phi) + torch.diag(penalty)
        c = c - torch.linalg.solve(hessian, slope)
    at = xs_q.requires_grad_()
    (field,) = torch.autograd.grad((_features(waves, at) @ c).sum(), at)
    return now() - start, field.cpu().numpy()


def kde(xs, points, bandwidth, size=256):
    """Log density of a Gaussian kernel estimate, `size` points at once."""
    xs, points = tensor(xs), tensor(points)
    start = now()
    exact = "donot_use_mm_for_euclid_dist"
    each = [
        torch.logsumexp(-0.5 * (torch.cdist(some, xs, compute_mode=exact) / bandwidth) ** 2, 1)
        for some in points.split(size)
    ]
    dim = xs.shape[1]
    found = torch.cat(each) - math.log(len(xs)) - dim * math.log(bandwidth * math.sqrt(2 * math.pi))
    return now() - start, found.cpu().numpy()


def gaussian(mean, whiten, steps, draws=100, rate=1e-2):
    """Full-rank variational inference by Adam: seconds, the mean and the covariance."""
    mean, whiten = tensor(mean), tensor(whiten)
    start = now()
    at = torch.zeros_like(mean, requires_grad=True)
    raw = torch.zeros_like(whiten, requires_grad=True)
    scale = lambda: raw.tril(-1) + torch.diag(raw.diag().exp())
    optimizer = torch.optim.Adam([at, raw], rate, fused=DEVICE == "cuda" or None)
    for _ in range(steps):
        zs = torch.randn(draws, len(mean), device=DEVICE, dtype=mean.dtype)
        log_p = -0.5 * (((at + zs @ scale().T - mean) @ whiten.T) ** 2).sum(1)
        loss = -log_p.mean() - raw.diag().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds, chol = now() - start, scale().detach()
    return seconds, at.detach().cpu().numpy(), (chol @ chol.T).cpu().numpy()
