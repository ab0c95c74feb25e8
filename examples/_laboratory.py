r"""The exact 1-D laboratory: flows from N(2, 1/4) to N(0, 1) to six digits, without the library.

    python examples/_laboratory.py [row ...]     rewrites tests/data/laboratory.json, or some rows

Each particle keeps its normal quantile z, so q is known from the spacing: between two particles
lies the mass Phi(z') - Phi(z) of q, and u = log p/q of that cell is a log of two masses. With u on
cells a particle moves at v = (h(u') - h(u)) / (distance of the two cells' centres), second order
in the spacing of z, and Romberg's table over halved spacings does the rest. Outermost cells reach
to infinity. LSODA steps in time, its Jacobian banded.

Where h' fades as u grows (`FADING`) the tail of q stands still until the bulk runs it over, and
gaps fall below the rounding of x. There each particle carries the log of its gap as a state of its
own. `euler` solves the same equation on a fixed grid in x, for a check by other means.
"""

import itertools
import json
import pathlib
import sys

import numpy as np
from scipy.integrate import quad, solve_ivp
from scipy.special import expit, log_ndtr, ndtr

FILE = pathlib.Path(__file__).parents[1] / "tests" / "data" / "laboratory.json"
TIMES = (0.1, 0.5, 1.0, 2.0)
START, SD = 2.0, 0.5
LOG_2PI = np.log(2 * np.pi)

# theory.md's catalogue again, up to constants; constants chosen so that no tail cancels.
H = {
    "kl_qp": lambda u: u,
    "kl_pq": np.exp,
    "jensen_shannon": lambda u: np.logaddexp(0, u) / 2,
    "softened_reverse_kl": lambda u: -np.logaddexp(0, -u),
    "squared_hellinger": lambda u: np.exp(u / 2),
    "pearson": lambda u: np.exp(2 * u),
    "neyman": lambda u: -2 * np.exp(-u),
    "le_cam": lambda u: -4 * expit(-u) * (1 + expit(u)),
    "jeffreys": lambda u: np.exp(u) + u,
    "least_squares": lambda u: -(expit(-u) ** 2),
    "arcsinh": np.arcsinh,
}
SLOPE = {
    "kl_qp": np.ones_like,
    "kl_pq": np.exp,
    "jensen_shannon": lambda u: expit(u) / 2,
    "softened_reverse_kl": lambda u: expit(-u),
    "squared_hellinger": lambda u: np.exp(u / 2) / 2,
    "pearson": lambda u: 2 * np.exp(2 * u),
    "neyman": lambda u: 2 * np.exp(-u),
    "le_cam": lambda u: 8 * expit(u) ** 2 * expit(-u),
    "jeffreys": lambda u: np.exp(u) + 1,
    "least_squares": lambda u: 2 * expit(u) * expit(-u) ** 2,
    "arcsinh": lambda u: 1 / np.sqrt(1 + u**2),
}
# h'(-log rho) = phi'(rho) makes the flow a diffusion: d rho/dt = (p phi(rho)_x)_x / p, rho = q/p.
PHI = {
    "kl_qp": lambda rho: rho,
    "kl_pq": np.log,
    "jensen_shannon": lambda rho: np.log1p(rho) / 2,
    "softened_reverse_kl": lambda rho: rho - np.log1p(rho),
    "squared_hellinger": np.sqrt,
    "pearson": lambda rho: -2 / rho,
    "neyman": lambda rho: rho**2,
    "le_cam": lambda rho: 4 * (rho / (1 + rho)) ** 2,
    "jeffreys": lambda rho: rho + np.log(rho),
    "least_squares": lambda rho: 2 * np.log1p(rho) + (3 + 4 * rho) / (1 + rho) ** 2,
    "arcsinh": None,  # not elementary
}
FADING = ("softened_reverse_kl", "neyman", "le_cam", "least_squares")


def initial_rate(name):
    """-dKL/dt at time 0 [nats per unit of time]; infinite for Pearson."""
    if name == "pearson":  # E_q[r^2 u'^2] = int p^2/q u'^2, and 1/q wins over p^2
        return np.inf

    def integrand(x):
        u = 0.5 * ((x - START) / SD) ** 2 + np.log(SD) - 0.5 * x**2
        log_q = -0.5 * ((x - START) / SD) ** 2 - np.log(SD) - LOG_2PI / 2
        # SLOPE grows at most like r, and q r = p.
        return np.exp(log_q) * SLOPE[name](u) * ((x - START) / SD**2 - x) ** 2

    parts = [quad(integrand, a, a + 2, epsabs=1e-13, epsrel=1e-12)[0] for a in range(-12, 12, 2)]
    return float(np.sum(parts))


def masses(z):
    """Normal mass of the cells that z cuts the line into, each from the nearer tail."""
    edge = np.concatenate([[-np.inf], z, [np.inf]])
    left, right = ndtr(edge), ndtr(-edge)
    return np.where(edge[1:] <= 0, np.diff(left), -np.diff(right))


def moments(q, x, kl):
    """Mean, variance, KL and third central moment."""
    mean = q @ x
    return mean, q @ (x - mean) ** 2, kl, q @ (x - mean) ** 3


def banded(rate, y0, times, rtol, atol, band, **options):
    """LSODA's run through the times, with a Jacobian of that many bands on either side.

    In fronts it may end in NaN by a chance of its steps; a somewhat smaller tolerance takes others.
    """
    for shrink in (1.0, 0.7, 0.5, 0.35):
        with np.errstate(all="ignore"):  # trial steps of Newton may cross particles
            run = solve_ivp(
                rate,
                (0.0, times[-1]),
                y0,
                method="LSODA",
                t_eval=times,
                rtol=rtol * shrink,
                atol=atol * shrink,
                lband=band,
                uband=band,
                **options,
            )
        if run.success and np.all(np.isfinite(run.y)):
            return run
    raise RuntimeError(f"LSODA: {run.message}")


class Cloud:
    """A quantile grid: `cells` gaps between |z| <= reach, and two cells beyond."""

    def __init__(self, name, cells, reach):
        self.h, self.carries = H[name], name in FADING
        self.z = np.linspace(-reach, reach, cells + 1)
        self.step = self.z[1] - self.z[0]
        self.mass = masses(self.z)
        self.log_mass = np.log(self.mass)
        self.weights = np.exp(-0.5 * self.z**2 - LOG_2PI / 2) * self.step

    def start(self):
        x = START + SD * self.z
        return self.join(x, np.full(len(x) - 1, np.log(SD * self.step)))

    def join(self, x, log_gap):
        if not self.carries:
            return x
        y = np.empty(2 * len(x) - 1)
        y[::2], y[1::2] = x, log_gap
        return y

    def split(self, y):
        if not self.carries:
            return y, np.log(np.diff(y))
        return y[::2], y[1::2]

    def log_ratio(self, y):
        """u on every cell; the middle's density and two derivatives give p's mass on a gap."""
        x, log_gap = self.split(y)
        middle = (x[1:] + x[:-1]) / 2
        bend = np.exp(2 * log_gap) * (middle**2 - 1) / 24
        inner = -0.5 * middle**2 - LOG_2PI / 2 + log_gap + np.log1p(bend)
        return np.concatenate([[log_ndtr(x[0])], inner, [log_ndtr(-x[-1])]]) - self.log_mass

    def slope(self, x, u, differences):
        """d/dx at the particles: z by the step, and dz/dx = q(x) / phi(z)."""
        return differences * np.exp(0.5 * (self.z**2 - x**2) - (u[1:] + u[:-1]) / 2) / self.step

    def rate(self, t, y):
        x, log_gap = self.split(y)
        u = self.log_ratio(y)
        v = self.slope(x, u, np.diff(self.h(u)))
        return self.join(v, np.diff(v) * np.exp(-log_gap))

    def solve(self, times, tol):
        """States at all times, and u on cells. Where little mass is, errors may be larger."""
        atol = tol
        if self.carries:
            few = self.join(self.weights, np.sqrt(self.weights[1:] * self.weights[:-1]))
            atol = np.minimum(1e-2, tol * self.weights.max() / few)
        run = banded(self.rate, self.start(), times, tol, atol, 3 if self.carries else 1)
        return [(self.split(y)[0], self.log_ratio(y)) for y in run.y.T]

    def numbers(self, x, u):
        return moments(self.weights, x, -self.mass @ u)


def romberg(levels):
    """Errors in even powers of the spacing, halved from level to level, taken away."""
    for k in range(1, len(levels)):
        levels = [
            fine + (fine - coarse) / (4**k - 1) for coarse, fine in itertools.pairwise(levels)
        ]
    return levels[0]


def lagrange(name, times, cells, reach, levels, tol=1e-10):
    """Mean, variance, KL and third moment at the times, and how much the last level changed."""
    tables = []
    for k in range(levels):
        cloud = Cloud(name, cells * 2**k, reach)
        tables.append(np.array([cloud.numbers(x, u) for x, u in cloud.solve(times, tol)]))
    best = romberg(tables)
    return best, np.abs(best - romberg(tables[:-1]))


def euler(name, times, dx, tol=1e-9):
    """The same by finite volumes of rho = q/p on a grid in x that stands still.

    The state is log rho, but rho itself in the rows of `FADING`, whose fronts leave rho = 0, but
    for rounding, before them; their KL is the weaker check, of first order at the front's foot.
    """
    edge = 5.6 if name == "pearson" else 7.0  # LSODA cannot start from Pearson's 1/rho at 7
    x = np.arange(-edge, edge + dx / 2, dx)
    half = (x[1:] + x[:-1]) / 2
    p, walls = np.exp(-0.5 * x**2), np.exp(-0.5 * half**2)
    log_rho = -0.5 * ((x - START) / SD) ** 2 + 0.5 * x**2 - np.log(SD)

    def spread(rho):
        flow = walls * np.diff(PHI[name](rho))
        return np.diff(flow, prepend=0, append=0) / (p * dx**2)

    if name in FADING:
        run = banded(lambda t, rho: spread(rho), np.exp(log_rho), times, tol, tol * 1e-3, 1)
        rhos = run.y.T
        logs = np.log(np.maximum(rhos, 1e-300))
    else:
        rate = lambda t, y: spread(np.exp(y)) * np.exp(-y)
        # A first step of LSODA's own choosing overflows where phi' grows as rho falls.
        logs = banded(rate, log_rho, times, tol, tol, 1, first_step=1e-300).y.T
        rhos = np.exp(logs)
    qs = p * rhos * dx / np.sqrt(2 * np.pi)
    return np.array([moments(q, x, q @ u) for q, u in zip(qs, logs, strict=True)])


def plan(name):
    """Cells, reach, levels and tolerance with which six digits stand, in KL nearly (2e-6)."""
    if name in FADING:
        levels = 3 if name == "neyman" else 4  # LSODA breaks down on Neyman's fourth
        return {"cells": 260, "reach": 6.5, "levels": levels, "tol": 1e-9}
    return {"cells": 200, "reach": 8.0, "levels": 6 if name == "pearson" else 4}


def row(name):
    """One row of the file."""
    rate = initial_rate(name)
    end = 8 / rate if np.isfinite(rate) else 0.1
    times = np.unique([*TIMES, *np.linspace(0, 4, 33)[1:], *np.linspace(0, end, 33)[1:]])
    # LSODA may break down on a fading row late in time: there the curve ends early.
    times = times[times <= {"neyman": 1.2, "softened_reverse_kl": 3.0}.get(name, np.inf)]
    best, change = lagrange(name, TIMES, **plan(name))
    curve, _ = lagrange(name, times, **(plan(name) | {"levels": plan(name)["levels"] - 1}))
    out = {"initial_rate": rate if np.isfinite(rate) else None, "times": TIMES}
    for k, key in enumerate(("mean", "var", "kl", "third")):
        out[key] = best[:, k].tolist()
        out[f"{key}_change"] = [float(f"{c:.1e}") for c in change[:, k]]
    if PHI[name] is not None:
        other = romberg([euler(name, TIMES, dx) for dx in (0.1, 0.05, 0.025)])
        for k, key in enumerate(("mean", "var", "kl", "third")):
            out[f"{key}_euler"] = [float(f"{c:.1e}") for c in np.abs(other - best)[:, k]]
    out["curve_t"] = [float(f"{t:.9g}") for t in times]
    out["curve_kl"] = [float(f"{kl:.7g}") for kl in curve[:, 2]]
    return out


def main(names):
    rows = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in names or H:
        rows[name] = row(name)
        keys = [f"{key}{end}" for key in ("mean", "var", "kl") for end in ("_change", "_euler")]
        worst = ", ".join(f"{k} {max(rows[name][k]):.0e}" for k in keys if k in rows[name])
        print(f"{name}: {worst}", flush=True)
    lines = ",\n".join(f'"{name}": {json.dumps(row)}' for name, row in rows.items())
    FILE.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
