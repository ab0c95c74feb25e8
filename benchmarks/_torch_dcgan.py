"""The DCGAN of `gan.py` in PyTorch: the same layers, weights, losses, batches and order of work."""

import numpy as np
import torch
from _torch_device import DEVICE, now, tensor
from torch import nn
from torch.nn.functional import softplus


def _convolutions(kind, layers):
    """Copies (kernel, bias) of ours, (rows, columns, channels, out), into PyTorch's layers."""
    for module, (kernel, bias) in zip(kind, layers, strict=True):
        module.weight.data = torch.tensor(np.transpose(kernel, (3, 2, 0, 1)).copy())
        module.bias.data = torch.tensor(np.array(bias))


def _channels_first(size, width):
    """Where PyTorch's flat quarter-size image takes its numbers from in ours."""
    side = size // 4
    index = np.arange(side * side * 2 * width).reshape(side, side, 2 * width)
    return np.transpose(index, (2, 0, 1)).ravel()


def discriminator(ours, size, channels, width):
    first, second = nn.Conv2d(channels, width, 4, 2, 1), nn.Conv2d(width, 2 * width, 4, 2, 1)
    dense = nn.Linear(size**2 // 8 * width, 1)
    _convolutions((first, second), [(each.kernel, each.bias) for each in (ours.first, ours.second)])
    weight = np.asarray(ours.dense.weight)[:, _channels_first(size, width)]
    dense.weight.data, dense.bias.data = (
        torch.tensor(weight),
        torch.tensor(np.array(ours.dense.bias)),
    )
    return nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), nn.Flatten(), dense)


def generator(ours, latent, size, channels, width):
    order, side = _channels_first(size, width), size // 4
    dense = nn.Linear(latent, order.size)
    first = nn.ConvTranspose2d(2 * width, width, 4, 2, 1)
    second = nn.ConvTranspose2d(width, channels, 4, 2, 1)
    _convolutions((first, second), [(each.kernel, each.bias) for each in (ours.first, ours.second)])
    dense.weight.data = torch.tensor(np.asarray(ours.dense.weight)[order])
    dense.bias.data = torch.tensor(np.asarray(ours.dense.bias)[order])
    start = nn.Sequential(dense, nn.Unflatten(1, (2 * width, side, side)), nn.SiLU())
    return nn.Sequential(start, first, nn.SiLU(), second, nn.Tanh())


class Training:
    """`run()` trains from where the last run stopped and returns seconds and the last losses."""

    def __init__(self, d, g, rates, betas, *, channels_last=False, compiler=None, low=False):
        """`compiler` is a backend of `torch.compile`; `low` computes in bfloat16, by autocast."""
        self.memory = torch.channels_last if channels_last else torch.contiguous_format
        self.d, self.g = (each.to(DEVICE, memory_format=self.memory) for each in (d, g))
        self.low = low
        self.steps = [
            torch.optim.Adam(net.parameters(), rate, betas, fused=DEVICE == "cuda" or None)
            for net, rate in zip((self.d, self.g), rates, strict=True)
        ]
        if compiler:
            self.d, self.g = (torch.compile(each, backend=compiler) for each in (self.d, self.g))

    def cast(self):
        return torch.autocast(DEVICE, torch.bfloat16, enabled=self.low)

    def step(self, xs, zs):
        of_d, of_g = self.steps
        with self.cast():
            fake = self.g(zs)
            loss_d = softplus(-self.d(xs)).mean() + softplus(self.d(fake.detach())).mean()
        of_d.zero_grad()
        loss_d.backward()
        of_d.step()
        self.d.requires_grad_(False)  # the generator's step needs no gradient of its weights
        with self.cast():
            loss_g = softplus(-self.d(fake)).mean()
        of_g.zero_grad()
        loss_g.backward()
        of_g.step()
        self.d.requires_grad_(True)
        return loss_d.detach(), loss_g.detach()

    def run(self, batches, noise):
        batches = [each.contiguous(memory_format=self.memory) for each in tensor(batches)]
        noise = tensor(noise)
        start = now()
        losses = [self.step(xs, zs) for xs, zs in zip(batches, noise, strict=True)]
        return now() - start, [float(each) for each in losses[-1]]
