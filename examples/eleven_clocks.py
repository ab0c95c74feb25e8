"""The same target, eleven clocks: how KL(q_t || p) falls along the flow of every h.

    python examples/eleven_clocks.py [--fast]

From N(2, 1/4) to N(0, 1) on the line, solved to five digits (--fast: three or four) by
_laboratory.py, with no ratio estimated; six are in tests/data/laboratory.json. Writes
examples/out/eleven_clocks.png: KL over the flow's own time, and over time times the dissipation at
the start, so that all curves set off with one slope. Pearson's dissipation at the start is
infinite: no clock normalises it.
"""

import argparse
import pathlib

import _laboratory as lab
import matplotlib.pyplot as plt
import numpy as np

OUT = pathlib.Path(__file__).parent / "out"
END, SPENT = 4.0, 8.0  # where the panels end: time, and nats
# What h' does where p has mass and q has none, u = log p/q to infinity.
GROWS, CONSTANT, LEVELS, FADES = "#D55E00", "#000000", "#009E73", "#0072B2"
LOOKS = {
    "kl_qp": ("KL(q||p)", CONSTANT, "-"),
    "kl_pq": ("KL(p||q)", GROWS, "-"),
    "jeffreys": ("Jeffreys", GROWS, "--"),
    "pearson": ("Pearson", GROWS, ":"),
    "squared_hellinger": ("Hellinger", GROWS, "-."),
    "jensen_shannon": ("Jensen-Shannon", LEVELS, "-"),
    "arcsinh": ("arcsinh", LEVELS, "--"),
    "neyman": ("Neyman", FADES, "--"),
    "softened_reverse_kl": ("NS GAN", FADES, "-"),
    "le_cam": ("Le Cam", FADES, "-."),
    "least_squares": ("least squares", FADES, ":"),
}
GROUPS = {
    GROWS: "h' grows",
    CONSTANT: "h' = 1",
    LEVELS: "h' levels off, or fades as 1/log r",
    FADES: "h' fades as 1/r or faster",
}


def solve(name, fast):
    """Times and KL, with the numbers at `lab.TIMES`."""
    spent = SPENT / lab.initial_rate(name)  # 0 for Pearson
    grid = np.linspace(0.0, 1.0, 33)[1:]
    times = np.unique(np.concatenate([lab.TIMES, END * grid, spent * grid, 0.1 * grid**3]))
    # Neyman's KL is below the picture by t = 2, and its solver may break down later.
    times = times[(times > 0) & (times <= (2.0 if name == "neyman" else np.inf))]
    plan = lab.plan(name)
    plan |= {"levels": max(2, plan["levels"] - (2 if fast else 1)), "tol": 1e-8 if fast else 1e-9}
    best, _ = lab.lagrange(name, times, **plan)
    return times, best


def ends(ts, kls, last, floor):
    """The part of a curve that the panel shows, and where it leaves: at the right, or the floor."""
    under = np.flatnonzero(kls < floor)
    if len(under) and ts[under[0]] <= last:
        i = under[0] - 1
        fall = np.log(kls[i : i + 2])
        t = ts[i] + (ts[i + 1] - ts[i]) * (fall[0] - np.log(floor)) / (fall[0] - fall[1])
        return ts <= ts[i], t, floor
    return ts <= last, last, kls[ts <= last][-1]


def spread(places, gap):
    """Moves sorted label places apart, as little as it can."""
    out = np.array(places)
    for _ in range(200):
        short = np.maximum(gap - np.diff(out), 0) / 2
        out[1:] += short
        out[:-1] -= short
    return out


def draw(axis, curves, last, top, floor):
    """Curves, and each one's name where it leaves: at the right, or under the floor."""
    right, below = [], []
    for name, (ts, kls) in curves.items():
        label, color, style = LOOKS[name]
        seen, t, kl = ends(ts, kls, last, floor)
        axis.plot([*ts[seen], t], [*kls[seen], kl], color=color, linestyle=style, linewidth=1.8)
        (below if kl == floor else right).append((t if kl == floor else np.log(kl), label, color))
    axis.set(xlim=(0, last), ylim=(floor, top), yscale="log", ylabel="KL(q_t || p) [nats]")
    right, below = sorted(right), sorted(below)
    apart = 0.032 * np.log(top / floor)
    for (_, label, color), place in zip(right, spread([r[0] for r in right], apart), strict=True):
        spot = (1.01 * last, np.exp(place))
        axis.annotate(label, spot, color=color, va="center", fontsize=9, annotation_clip=False)
    for t, label, color in below:
        look = {"rotation": 90, "ha": "center", "va": "top", "fontsize": 9}
        axis.annotate(label, (t, floor * 0.94), color=color, annotation_clip=False, **look)
    axis.tick_params(axis="x", labeltop=True, labelbottom=False, top=True, bottom=False)
    axis.xaxis.set_label_position("top")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a coarse grid, for a check")
    fast = parser.parse_args(argv).fast
    OUT.mkdir(exist_ok=True)
    raw, normal = {}, {}
    heads = [f"{what} {t}" for t in (0.5, 2.0) for what in ("mean", "var", "KL")]
    print(f"{'flow':20s} {'-dKL/dt(0)':>10s} " + " ".join(f"{head:>9s}" for head in heads))
    start = np.log(2) + (0.25 + 4 - 1) / 2
    for name in LOOKS:
        times, best = solve(name, fast)
        ts, kls = np.array([0.0, *times]), np.array([start, *best[:, 2]])
        rate = lab.initial_rate(name)
        raw[name] = ts, kls
        if np.isfinite(rate):
            normal[name] = ts * rate, kls
        rows = best[np.searchsorted(times, [0.5, 2.0])][:, :3].ravel()
        print(f"{name:20s} {rate:10.4f} " + " ".join(f"{x:9.6f}" for x in rows), flush=True)
    plt.style.use("divergence_flows.plot.style")
    figure, axes = plt.subplots(1, 2, figsize=(14, 6.2))
    draw(axes[0], raw, END, 3.0, 1e-3)
    axes[0].set_xlabel("flow time t")
    draw(axes[1], normal, SPENT, 2.6, 0.05)
    axes[1].set_xlabel("t x dissipation at the start [nats]")
    for color, words in GROUPS.items():
        axes[1].plot([], [], color=color, linewidth=4, label=words)
    axes[1].legend(loc="lower left", fontsize=9, title="where r = p/q is large", frameon=False)
    axes[1].text(0.02, 0.27, "Pearson starts with infinite dissipation:\nno clock fits it",
                 transform=axes[1].transAxes, color=GROWS, fontsize=9)  # fmt: skip
    figure.suptitle("The same target, eleven clocks: N(2, 1/4) flows to N(0, 1)")
    path = OUT / "eleven_clocks.png"
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
