"""The catalogue in mpmath, from theory.md's formulas: an oracle made without the library."""

import mpmath as mp

import divergence_flows as df

D = df.divergences
ROWS = {
    "kl_qp": D.kl_qp,
    "kl_pq": D.kl_pq,
    "jensen_shannon": D.jensen_shannon,
    "softened_reverse_kl": D.softened_reverse_kl,
    "squared_hellinger": D.squared_hellinger,
    "pearson": D.pearson,
    "neyman": D.neyman,
    "le_cam": D.le_cam,
    "jeffreys": D.jeffreys,
    "least_squares": D.least_squares,
    "arcsinh": D.arcsinh,
    "alpha_-2": D.alpha(-2.0),
    "alpha_0": D.alpha(0.0),
    "alpha_half": D.alpha(0.5),
    "alpha_1": D.alpha(1.0),
    "alpha_3": D.alpha(3.0),
    "shifted_0": D.shifted_vanilla(0.0),
    "shifted_3": D.shifted_vanilla(3.0),
}


def alpha_of(a):
    """f of the order, its limits at 0 and 1 included."""
    if a == 0:
        return lambda r: r - 1 - mp.log(r)
    if a == 1:
        return lambda r: r * mp.log(r) - r + 1
    return lambda r: (r**a - a * r + a - 1) / (a * (a - 1))


def shifted_of(shift):
    c = mp.e**shift
    return lambda r: c * r * mp.log(r) - (1 + c * r) * mp.log((1 + c * r) / (1 + c))


F = {
    "kl_qp": lambda r: -mp.log(r),
    "kl_pq": lambda r: r * mp.log(r),
    "jensen_shannon": lambda r: (r * mp.log(r) - (1 + r) * mp.log((1 + r) / 2)) / 2,
    "softened_reverse_kl": lambda r: (1 + r) * mp.log((1 + r) / (2 * r)),
    "squared_hellinger": lambda r: (mp.sqrt(r) - 1) ** 2,
    "pearson": lambda r: (r - 1) ** 2,
    "neyman": lambda r: (r - 1) ** 2 / r,
    "le_cam": lambda r: (r - 1) ** 2 / (r + 1),
    "jeffreys": lambda r: (r - 1) * mp.log(r),
    "least_squares": lambda r: 2 * r * mp.log(2 * r / (1 + r)) - 1 / (1 + r) + mp.mpf(1) / 2,
    "alpha_-2": alpha_of(mp.mpf(-2)),
    "alpha_0": alpha_of(0),
    "alpha_half": alpha_of(mp.mpf(1) / 2),
    "alpha_1": alpha_of(1),
    "alpha_3": alpha_of(mp.mpf(3)),
    "shifted_0": shifted_of(0),
    "shifted_3": shifted_of(3),
}
# Names of ../shared/oracles against ours: (row, factor on the oracle's number).
ORACLE_NAMES = {
    "kl": ("kl_qp", 1.0),
    "fkl": ("kl_pq", 1.0),
    "gan": ("jensen_shannon", 0.5),
    "js": ("jensen_shannon", 1.0),
    "hellinger2": ("squared_hellinger", 2.0),
    "pearson": ("pearson", 1.0),
    "neyman": ("neyman", 1.0),
    "lecam": ("le_cam", 1.0),
    "jeffreys": ("jeffreys", 1.0),
    "ns": ("softened_reverse_kl", 1.0),
    "lsgan": ("least_squares", 1.0),
    "arcsinh": ("arcsinh", 1.0),
    "shifted_3": ("shifted_3", 1.0),
}
