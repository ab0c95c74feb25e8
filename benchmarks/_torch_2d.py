"""The small networks of `gan.py` in PyTorch: a flow of particles, and GANs of one or many seeds."""

import torch
from _torch_device import DEVICE, now, tensor
from torch.nn.functional import leaky_relu, linear, silu, softplus


def tensors(layers):
    """Weights and biases of a network of ours; a leading axis of seeds stays."""
    return [tensor(x).requires_grad_() for w, b in layers for x in (w, b)]


def forward(params, activation, xs, by_func=False):
    """A multilayer perceptron on a batch; all seeds at once by one batched product a layer.

    Or as `torch.func.vmap` does it, of a layer of one seed.
    """
    for i in range(0, len(params), 2):
        w, b = params[i : i + 2]
        if w.ndim == 2:
            xs = linear(xs, w, b)
        elif by_func:
            xs = torch.func.vmap(linear)(xs, w, b)
        else:
            xs = torch.baddbmm(b[:, None], xs, w.mT)
        if i + 2 < len(params):
            xs = activation(xs)
    return xs


def adam(params, rate, betas):
    return torch.optim.Adam(params, rate, betas, fused=True)


def flow(layers, xs, xs_p, steps, rate, eps):
    """One step of the critic, one Euler step of the particles along grad d; seconds, particles."""
    params = tensors(layers)
    optimizer = adam(params, rate, (0.9, 0.999))
    xs, xs_p = tensor(xs), tensor(xs_p)
    critic = lambda xs: forward(params, lambda x: leaky_relu(x, 0.2), xs)
    losses = []
    start = now()
    for _ in range(steps):
        loss = softplus(-critic(xs_p)).mean() + softplus(critic(xs)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        at = xs.requires_grad_()
        (slope,) = torch.autograd.grad(critic(at).sum(), at)
        xs = at.detach() + eps * slope
    return now() - start, xs.cpu().numpy(), float(losses[-1])


class Game:
    """A non-saturating GAN of one seed, or of many whose weights are stacked."""

    def __init__(self, d_layers, g_layers, xs_p, rate, betas, decay, by_func=False):
        self.d, self.g = tensors(d_layers), tensors(g_layers)
        self.ema = [x.detach().clone() for x in self.g]
        self.tools = [adam(params, rate, betas) for params in (self.d, self.g)]
        self.xs_p, self.decay, self.by_func = tensor(xs_p), decay, by_func
        self.seeds = tuple(self.d[0].shape[:-2])
        self.latent = self.g[0].shape[-1]

    def value(self, xs):
        return forward(self.d, silu, xs, self.by_func)

    def fakes(self, batch):
        zs = torch.randn(*self.seeds, batch, self.latent, device=DEVICE)
        return forward(self.g, silu, zs, self.by_func)

    def step(self, batch):
        of_d, of_g = self.tools
        xs = self.xs_p[torch.randint(len(self.xs_p), (*self.seeds, batch), device=DEVICE)]
        with torch.no_grad():
            fakes = self.fakes(batch)
        losses = softplus(-self.value(xs)) + softplus(self.value(fakes))
        loss_d = losses.mean(dim=(-2, -1))
        of_d.zero_grad()
        loss_d.sum().backward()
        of_d.step()
        for x in self.d:  # the generator's step needs no gradient of its weights
            x.requires_grad_(False)
        loss_g = softplus(-self.value(self.fakes(batch))).mean(dim=(-2, -1)).sum()
        of_g.zero_grad()
        loss_g.backward()
        of_g.step()
        for x in self.d:
            x.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.g, 1 - self.decay)
        return loss_d.detach()

    def run(self, steps, batch):
        """Seconds, and the discriminator's loss at each step, by seed."""
        start = now()
        losses = [self.step(batch) for _ in range(steps)]
        return now() - start, torch.stack(losses).cpu().numpy()
