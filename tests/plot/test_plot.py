"""Pictures hold the numbers that they are made of, in the axes passed and nowhere else."""

import pathlib
import sys
import tomllib

import catalogue
import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import mpmath as mp
import numpy as np
import pytest
from matplotlib.colors import same_color, to_rgba
from PIL import Image

import divergence_flows as df
from divergence_flows.plot._names import NAMES

RNG = np.random.default_rng(0)
XS_Q, XS_P = RNG.normal(size=(30, 2)), RNG.normal(size=(40, 2)) + 3
PATH = XS_Q + np.linspace(0, 1, 4)[:, None, None] * (XS_P[:30] - XS_Q)
IMAGES = RNG.uniform(size=(5, 4, 6))
LOSSES = RNG.uniform(size=(6, 9)).astype(np.float32)
Q = df.Gaussian(jnp.array([1.0, -2.0]), jnp.array([[1.0, 0.0], [0.8, 0.5]]))
FLOW = df.Gaussian(jnp.ones((4, 2)) * jnp.arange(4.0)[:, None], jnp.tile(Q.scale, (4, 1, 1)))
MIXTURE = df.Mixture(jnp.zeros(2), jnp.array([[0.0, 0.0], [3.0, 1.0]]), jnp.ones((2, 2)))
BOX = ((-3.0, 5.0), (-5.0, 3.0))
LOGIT = df.gans.logit()


@pytest.fixture(autouse=True)
def ax():
    """Axes of a figure that is closed afterwards."""
    yield plt.figure().add_subplot()
    plt.close("all")


# One good call of every function that draws into one axes.
ONE = {
    "samples": lambda **k: df.plot.samples(XS_P, **k),
    "paths": lambda **k: df.plot.paths(PATH, **k),
    "losses": lambda **k: df.plot.losses(LOSSES, gan=LOGIT, **k),
    "ellipses": lambda **k: df.plot.ellipses(FLOW, **k),
    "density": lambda **k: df.plot.density(Q.log_prob, BOX, points=9, **k),
}
ROWS = {
    "before_after": (3, lambda **k: df.plot.before_after(XS_Q, PATH[-1], XS_P, **k)),
    "curves": (2, lambda **k: df.plot.curves(df.divergences.pearson, **k)),
}


# Axes in and out


@pytest.mark.parametrize("name", ONE)
def test_axes_that_are_passed_come_back_and_nothing_else_is_drawn(name, ax):
    other = plt.figure().add_subplot()  # the current axes
    children, settings = len(other.get_children()), dict(mpl.rcParams)
    assert ONE[name](ax=ax) is ax
    assert ax.has_data()
    assert len(other.get_children()) == children and not other.has_data()
    assert len(plt.get_fignums()) == 2 and ax.figure.axes == [ax]
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize("name", ONE)
def test_without_axes_the_current_ones_are_drawn_into(name, ax):
    assert ONE[name]() is ax


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_axes_come_back_and_without_them_there_is_one_new_figure(name):
    count, call = ROWS[name]
    figure, axes = plt.subplots(1, count)
    assert list(call(axes=axes)) == list(axes)
    assert figure.axes == list(axes) and all(ax.has_data() for ax in axes)
    before = plt.get_fignums()
    made = call()
    assert len(made) == count and len(plt.get_fignums()) == len(before) + 1


def test_one_of_the_axes_of_curves_may_be_left_out(ax):
    df.plot.curves(df.divergences.kl_qp, axes=(None, ax))
    assert len(ax.lines) == 1 and ax.get_ylabel() == "h(u) - h(0)"


def test_options_go_on_to_matplotlib(ax):
    df.plot.samples(XS_P, ax=ax, color="red", s=3.5, label="some")
    (dots,) = ax.collections
    assert same_color(dots.get_facecolor()[0, :3], "red")
    assert dots.get_sizes() == [3.5] and dots.get_label() == "some"


SHORT = {"lw": 3.0, "ls": "--"}
OF_SHORT = {
    "samples": {"lw": 3.0, "ec": "black", "c": np.arange(40.0)},
    **dict.fromkeys(("paths", "losses", "ellipses"), SHORT),
}


@pytest.mark.parametrize("name", OF_SHORT)
def test_options_have_their_short_names_too(name, ax):
    ONE[name](ax=ax, **OF_SHORT[name])
    artist = ax.lines[0] if name == "losses" else ax.collections[0]
    assert np.all(np.ravel(artist.get_linewidth()) == 3)


def test_the_style_has_the_palette_and_changes_nothing_unless_it_is_used():
    with plt.style.context("divergence_flows.plot.style"):
        cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
        assert not mpl.rcParams["axes.spines.top"]
    assert {df.plot.COLORS["q"], df.plot.COLORS["moved"]} == set(cycle[:2])
    assert mpl.rcParams["axes.spines.top"]


# Samples


def test_points_are_where_they_are(ax):
    df.plot.samples(jnp.asarray(XS_P), ax=ax)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), XS_P, rtol=1e-6)


def test_points_come_from_a_data_frame_too(ax):
    frame = pytest.importorskip("pandas").DataFrame(XS_P, columns=["x", "y"])
    df.plot.samples(frame, ax=ax)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), XS_P)


@pytest.mark.parametrize("xs", [XS_P[:, 0], XS_P[:, :1]], ids=str)
def test_numbers_are_a_histogram(xs, ax):
    df.plot.samples(xs, ax=ax, bins=7)
    heights, edges = np.histogram(xs, 7, density=True)
    corners = ax.patches[0].get_xy()
    assert set(np.round(heights, 9)) <= set(np.round(corners[:, 1], 9))
    assert set(np.round(edges, 9)) == set(np.round(corners[:, 0], 9))


LAYOUTS = {
    "h, w": IMAGES,
    "h, w, 1": IMAGES[..., None],
    "1, h, w": IMAGES[:, None],
    "h, w, 3": RNG.uniform(-1, 1, size=(5, 4, 6, 3)),
    "3, h, w": RNG.uniform(-1, 1, size=(5, 3, 4, 6)),
    "h, w, 4": RNG.uniform(size=(5, 4, 6, 4)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_image_of_a_grid_is_in_its_place(layout, ax):
    xs = LAYOUTS[layout]
    scale = {"vmin": -1.0, "vmax": 1.0} if "3" in layout else {"vmin": 0.0, "vmax": 1.0}
    df.plot.samples(xs, ax=ax, columns=2, **scale)
    shown = np.ma.filled(ax.images[0].get_array(), np.nan)
    images = np.moveaxis(xs, 1, 3) if layout in ("1, h, w", "3, h, w") else xs
    height, width = images.shape[1:3]
    assert shown.shape[:2] == (3 * height + 2, 2 * width + 1)
    for i, image in enumerate(images):
        top, left = i // 2 * (height + 1), i % 2 * (width + 1)
        tile = shown[top : top + height, left : left + width]
        if "3" in layout:
            np.testing.assert_allclose(2 * tile[..., :3] - 1, image, atol=1e-12)
            assert np.all(tile[..., 3] == 1)
        else:
            np.testing.assert_array_equal(tile.ravel(), image.ravel())
    # Where there is no image the page shows.
    left_over = shown[-height:, -width:]
    assert np.all(np.isnan(left_over) if left_over.ndim == 2 else left_over[..., 3] == 0)


def test_before_and_after_have_their_samples_colours_and_one_frame():
    axes = df.plot.before_after(XS_Q, PATH[-1], XS_P)
    colors = df.plot.COLORS
    for ax, (name, xs) in zip(axes, {"q": XS_Q, "moved": PATH[-1], "p": XS_P}.items(), strict=True):
        *behind, dots = ax.collections
        np.testing.assert_array_equal(dots.get_offsets(), xs)
        assert same_color(dots.get_facecolor()[0, :3], colors[name])
        assert len(behind) == (name != "p")
        for cloud in behind:
            np.testing.assert_array_equal(cloud.get_offsets(), XS_P)
            assert same_color(cloud.get_facecolor()[0, :3], colors["p"])
        assert (ax.get_xlim(), ax.get_ylim()) == (axes[0].get_xlim(), axes[0].get_ylim())
        for limits, values in ((ax.get_xlim(), xs[:, 0]), (ax.get_ylim(), xs[:, 1])):
            assert limits[0] < values.min() and values.max() < limits[1]


def test_images_before_and_after_have_one_scale_of_greys():
    axes = df.plot.before_after(IMAGES, 2 * IMAGES, IMAGES - 1)
    limits = {ax.images[0].get_clim() for ax in axes}
    assert limits == {(np.min(IMAGES) - 1, 2 * np.max(IMAGES))}


# Paths


def test_the_segments_are_the_path_and_its_ends_are_marked(ax):
    df.plot.paths(PATH, ax=ax)
    lines, start, end = ax.collections
    np.testing.assert_array_equal(np.stack(lines.get_segments(), axis=1), PATH)
    np.testing.assert_array_equal(start.get_offsets(), PATH[0])
    np.testing.assert_array_equal(end.get_offsets(), PATH[-1])
    assert same_color(start.get_facecolor()[0], df.plot.COLORS["q"])
    assert same_color(end.get_facecolor()[0], df.plot.COLORS["moved"])


def test_of_many_particles_some_are_drawn_each_in_its_colour(ax):
    colors = [to_rgba(f"C{i % 7}") for i in range(30)]
    df.plot.paths(PATH, count=7, color=colors, ax=ax)
    lines, _, end = ax.collections
    assert len(lines.get_segments()) == 7
    for segment, color, place in zip(
        lines.get_segments(), lines.get_colors(), end.get_offsets(), strict=True
    ):
        (which,) = np.flatnonzero(np.all(PATH[0] == segment[0], axis=1))
        np.testing.assert_array_equal(segment, PATH[:, which])
        np.testing.assert_array_equal(place, PATH[-1, which])
        np.testing.assert_allclose(color[:3], colors[which][:3])


def test_frames_hold_the_positions_and_the_film_is_saved(tmp_path, ax):
    film = df.plot.animate(PATH, XS_P, times=[0.0, 0.5, 1.0, 2.0], ax=ax)
    behind, dots = ax.collections
    for i, cloud in enumerate(PATH):
        film._func(i)
        np.testing.assert_array_equal(dots.get_offsets(), cloud)
    np.testing.assert_array_equal(behind.get_offsets(), XS_P)
    assert ax.get_title() == "t = 2"
    film.save(tmp_path / "film.gif", writer="pillow", dpi=30)
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames >= len(PATH)


def test_frames_of_images_hold_the_images(tmp_path, ax):
    path = np.stack([IMAGES, 2 * IMAGES])
    film = df.plot.animate(path, ax=ax)
    film._func(1)
    shown = ax.images[0].get_array()
    np.testing.assert_array_equal(shown[:4, :6], 2 * IMAGES[0])
    film.save(tmp_path / "film.gif", writer="pillow", dpi=30)


# Losses


def info_of(kind):
    """A report of six seeds, as `vmap` makes it."""
    one = {
        "transport": lambda row: df.TransportInfo(
            row, row, jnp.zeros((2, 3, 2)), jnp.arange(2), None, None, jnp.array(-1)
        ),
        "train_gan": lambda row: df.TrainInfo(row, -row, row, jnp.array(-1)),
        "train_flow_ratio": lambda row: df.FlowRatioInfo(row, 2 * row, row, jnp.array(-1)),
    }[kind]
    return jax.vmap(one)(jnp.asarray(LOSSES))


FACTORS = {"transport": [1], "train_gan": [1, -1], "train_flow_ratio": [1, 2]}


@pytest.mark.parametrize("kind", FACTORS)
def test_curves_hold_exactly_the_losses_of_a_report(kind, ax):
    one = jax.tree.map(lambda leaf: leaf[0], info_of(kind))
    df.plot.losses(one, ax=ax)
    for line, factor in zip(ax.lines, FACTORS[kind], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), factor * LOSSES[0])
        np.testing.assert_array_equal(line.get_xdata(), np.arange(9))


@pytest.mark.parametrize("kind", FACTORS)
def test_of_many_seeds_there_are_the_median_and_a_band(kind, ax):
    df.plot.losses(info_of(kind), ax=ax)
    for line, band, factor in zip(ax.lines, ax.collections, FACTORS[kind], strict=True):
        values = np.sort(factor * LOSSES.astype(float), axis=0)
        np.testing.assert_allclose(line.get_ydata(), (values[2] + values[3]) / 2, rtol=1e-12)
        # The tenth and the ninetieth of six in order lie between the outer two at each end.
        corners = band.get_paths()[0].vertices
        assert np.isclose(corners[:, 1].min(), (values[0] + 0.5 * (values[1] - values[0])).min())
        assert np.isclose(corners[:, 1].max(), (values[5] - 0.5 * (values[5] - values[4])).max())


def test_seeds_that_diverged_are_left_out_and_counted(ax):
    broken = np.where((np.arange(6) == 2)[:, None] & (np.arange(9) > 4), np.nan, LOSSES)
    df.plot.losses(broken, ax=ax)
    rest = np.delete(LOSSES.astype(float), 2, axis=0)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.median(rest, axis=0), rtol=1e-12)
    assert "5 seeds (1 diverged)" in ax.lines[0].get_label()
    with pytest.raises(ValueError, match="losses: `info` has no seed of finite losses"):
        df.plot.losses(np.full((2, 3), np.nan), ax=ax)


# p = q: log 2 for each of a logistic pair's players' terms, d = 1/2 for least squares.
LIMITS = {
    "logit": (df.gans.logit(), 2 * np.log(2), 0.0, "JS", "KL(q||p)"),
    "vanilla": (df.gans.vanilla(), 2 * np.log(2), -np.log(2), "JS", "JS"),
    "least_squares": (df.gans.least_squares(), 0.5, None, "Le Cam", "least squares"),
    "wasserstein": (df.gans.wasserstein(), 0.0, 0.0, None, None),
    "relativistic": (df.gans.relativistic(), np.log(2), np.log(2), None, None),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_game_names_its_divergences_and_its_losses_at_the_match(name, ax):
    gan, of_d, of_g, measured, descended = LIMITS[name]
    df.plot.losses(info_of("train_gan"), gan=gan, ax=ax)
    loss_d, at_d, loss_g, at_g = ax.lines
    assert np.allclose(at_d.get_ydata(), of_d, atol=1e-6)
    assert of_g is None or np.allclose(at_g.get_ydata(), of_g, atol=1e-6)
    assert (f", measures {measured}," in loss_d.get_label()) == (measured is not None)
    assert (f", descends {descended}," in loss_g.get_label()) == (descended is not None)


def test_losses_of_ones_own_have_their_names(ax):
    df.plot.losses({"one": LOSSES[0], "other": LOSSES[1]}, gan=LOGIT, ax=ax)
    assert [line.get_label() for line in ax.lines] == ["one", "other"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), LOSSES[1])


# f and h

US = np.linspace(-2.0, 2.0, 5)
# Names in the catalogue of the tests, written in mpmath.
OF_NAME = {
    "KL(q||p)": "kl_qp",
    "KL(p||q)": "kl_pq",
    "JS": "jensen_shannon",
    "softened reverse KL": "softened_reverse_kl",
    "Jeffreys": "jeffreys",
    "Pearson": "pearson",
    "Neyman": "neyman",
    "Hellinger": "squared_hellinger",
    "Le Cam": "le_cam",
    "least squares": "least_squares",
}


def exact(name):
    """f with f(1) = f'(1) = 0 and f''(1) = 1, and h with h(0) = 0, from f in mpmath."""
    f = catalogue.F[OF_NAME[name]]
    slope, bend = mp.diff(f, 1), mp.diff(f, 1, 2)
    h = lambda r: r * mp.diff(f, r) - f(r)
    fs = [float((f(r) - f(mp.mpf(1)) - slope * (r - 1)) / bend) for r in map(mp.exp, US)]
    return fs, [float(h(mp.exp(u)) - h(mp.mpf(1))) for u in US]


@pytest.mark.parametrize("name", OF_NAME)
def test_the_curves_of_a_divergence_are_its_f_and_h(name):
    axes = df.plot.curves(NAMES[name], us=US)
    (f,), (h,) = (ax.lines for ax in axes)
    wanted_f, wanted_h = exact(name)
    np.testing.assert_allclose(f.get_xdata(), np.exp(US))
    np.testing.assert_allclose(f.get_ydata(), wanted_f, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(h.get_ydata(), wanted_h, rtol=2e-5, atol=1e-6)
    assert f.get_label() == f"descended: {name}"


def test_a_gan_shows_what_is_measured_and_what_is_descended():
    of_f, of_h = df.plot.curves(df.gans.non_saturating(), us=US)
    measured, descended = of_f.lines
    np.testing.assert_allclose(measured.get_ydata(), exact("JS")[0], rtol=1e-4, atol=1e-5)
    wanted_f, wanted_h = exact("softened reverse KL")
    np.testing.assert_allclose(descended.get_ydata(), wanted_f, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_h.lines[0].get_ydata(), wanted_h, rtol=1e-4, atol=1e-5)
    assert "JS" in measured.get_label() and "softened reverse KL" in descended.get_label()


def test_a_gan_of_ones_own_is_derived_and_where_h_falls_that_is_shown():
    square = lambda d: -((d - 1) ** 2), lambda d: -((d + 1) ** 2), lambda d: -(d**2)
    own = df.GAN(*square, inverse=lambda u: jnp.tanh(u / 2))
    of_f, of_h = df.plot.curves(own, us=US)
    (measured,) = of_f.lines  # no f belongs to that h
    np.testing.assert_allclose(measured.get_ydata(), exact("Le Cam")[0], rtol=1e-4, atol=1e-5)
    rises, falls = (line.get_ydata() for line in of_h.lines)
    np.testing.assert_array_equal(np.isnan(rises), US > 0)
    np.testing.assert_allclose(falls[US > 0], -(np.tanh(US[US > 0] / 2) ** 2), rtol=1e-5)


# Laws in the plane


def test_an_ellipse_has_the_covariance_of_its_gaussian(ax):
    df.plot.ellipses(Q, ax=ax)
    one, two = ax.collections[0].get_segments()
    np.testing.assert_array_equal(one[0], one[-1])
    for ring, level in ((one[:-1], 1.0), (two[:-1], 2.0)):
        np.testing.assert_allclose(ring.mean(axis=0), Q.mean, atol=1e-6)
        # Over a circle cos^2 is a half on average.
        covariance = np.cov(ring.T, bias=True) * 2 / level**2
        np.testing.assert_allclose(covariance, Q.covariance, rtol=1e-5)
    inside = mpl.path.Path(one).contains_points(
        jax.vmap(Q.push)(df.normal_nodes(20_000, 2, key=jax.random.key(0)).points)
    )
    assert abs(inside.mean() - (1 - np.exp(-0.5))) < 0.012  # 39.3 %
    np.testing.assert_allclose(ax.collections[1].get_offsets(), Q.mean[None])


def test_of_more_dimensions_the_marginal_of_two_is_drawn(ax):
    scale = np.tril(RNG.normal(size=(3, 3))) + 2 * np.eye(3)
    law = df.Gaussian(jnp.arange(3.0), scale)
    df.plot.ellipses(law, coordinates=(2, 0), levels=[1], ax=ax)
    (ring,) = ax.collections[0].get_segments()
    np.testing.assert_allclose(ring[:-1].mean(axis=0), [2, 0], atol=1e-5)
    wanted = (scale @ scale.T)[np.ix_([2, 0], [2, 0])]
    np.testing.assert_allclose(2 * np.cov(ring[:-1].T, bias=True), wanted, rtol=1e-4)


def test_a_mixture_has_an_ellipse_for_each_component(ax):
    df.plot.ellipses(MIXTURE, levels=[1.0], ax=ax)
    rings = ax.collections[0].get_segments()
    np.testing.assert_allclose([ring[:-1].mean(axis=0) for ring in rings], MIXTURE.means, atol=1e-6)


@pytest.mark.parametrize(
    "law",
    [
        FLOW,
        jax.vmap(lambda s: df.Mixture(MIXTURE.logits, MIXTURE.means + s, MIXTURE.scales))(
            jnp.arange(4.0)
        ),
    ],
    ids=["Gaussian", "Mixture"],
)
def test_a_flow_shows_some_times_and_the_way_of_its_means(law, ax):
    df.plot.ellipses(law, levels=[1.0], count=3, ax=ax)
    means = np.asarray(law.mean[:, None] if isinstance(law, df.Gaussian) else law.means)
    rings = ax.collections[0].get_segments()
    assert len(rings) == 3 * means.shape[1]
    np.testing.assert_allclose(rings[-1][:-1].mean(axis=0), means[-1, -1], atol=1e-5)
    ways = np.stack([line.get_xydata() for line in ax.lines], axis=1)
    np.testing.assert_array_equal(ways, means)
    alphas = ax.collections[0].get_colors()[:, 3]
    assert np.all(np.diff(alphas) >= 0) and alphas[-1] == 1


def test_contours_lie_where_a_gaussian_is_so_many_deviations_from_its_mean(ax):
    df.plot.density(Q.log_prob, BOX, ax=ax, points=120)
    filled = ax.collections[0]
    depths = np.sqrt(-2 * np.log(np.asarray(filled.levels)))
    np.testing.assert_allclose(depths, [3, 2.5, 2, 1.5, 1, 0.5, 0], atol=1e-6)
    for depth, path in zip(depths, filled.get_paths(), strict=False):
        edge = path.vertices[path.codes != mpl.path.Path.CLOSEPOLY]
        radii = np.linalg.norm(jax.vmap(Q.standardise)(edge), axis=1)
        # A layer lies between two depths; its outer edge is the deeper one.
        assert abs(radii.max() - depth) < 0.05
        assert radii.min() > depth - 0.55


def test_a_density_without_a_box_fills_what_the_axes_show(ax):
    df.plot.samples(XS_P, ax=ax)
    limits = ax.get_xlim(), ax.get_ylim()
    df.plot.density(Q.log_prob, points=5, ax=ax)
    assert (ax.get_xlim(), ax.get_ylim()) == limits


# Refusals

P = df.plot
REFUSED = {
    "five coordinates": (lambda: P.samples(np.ones((4, 5))), "samples: `xs` has events of shape"),
    "another event": (
        lambda: P.before_after(XS_Q, XS_Q, IMAGES),
        "before_after: `xs_q` has events (2,), `moved` has events (2,), `xs_p` has events (4, 6)",
    ),
    "no samples": (lambda: P.samples(np.ones((0, 2))), "samples: `xs` has no samples"),
    "no particles": (lambda: P.paths(np.ones((3, 0, 2))), "paths: `path` has no samples"),
    "numbers that move": (lambda: P.animate(np.ones((3, 4))), "animate: `path` has events of sha"),
    "no losses": (lambda: P.losses(np.ones(0)), "losses: `info` has no samples"),
    "a line": (
        lambda: P.ellipses(df.Gaussian(np.zeros(1), np.ones(1))),
        "ellipses: `laws` has means of sh",
    ),
    "two times": (
        lambda: P.ellipses(df.Gaussian(np.ones((2, 2, 2)), np.ones((2, 2, 2)))),
        "ellipses: `laws` has means of shape (2, 2, 2)",
    ),
    "a third of two": (lambda: P.ellipses(Q, coordinates=(0, 2)), "ellipses: `laws` has means of"),
    "no box": (lambda: P.density(Q.log_prob), "density: pass `box`"),
    "no number": (lambda: P.density(lambda x: x, BOX), "density: `log_p` returns float32[2]"),
    "nowhere finite": (lambda: P.density(lambda x: jnp.nan * x[0], BOX), "density: `log_p` is now"),
    "no points": (lambda: P.density(Q.log_prob, BOX, points=0), "density: `points` is 0"),
    "no columns": (lambda: P.samples(IMAGES, columns=0), "samples: `columns` is 0"),
    "two axes": (
        lambda: P.before_after(XS_Q, XS_Q, XS_P, axes=plt.subplots(1, 2)[1]),
        "before_after: `axes` holds 2; pass 3 axes",
    ),
    "axes that are none": (lambda: P.curves(LOGIT, axes=(3, 4)), "curves: `axes` is a int"),
    **{
        f"{name} in no axes": (lambda c=c: c(ax="a"), f"{name}: `ax` is a str")
        for name, c in ONE.items()
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drawn_is_refused_in_one_line(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        call()
    said = str(caught.value)
    assert said.startswith(words) and "\n" not in said and said.endswith(".")


TRACED = {
    "samples": (P.samples, XS_P),
    "before_after": (lambda xs: P.before_after(XS_Q, xs, XS_P), XS_Q),
    "paths": (P.paths, PATH),
    "animate": (P.animate, PATH),
    "losses": (P.losses, LOSSES),
    "ellipses": (P.ellipses, Q),
    "curves": (lambda shift: P.curves(df.gans.vanilla(shift)), 0.0),
    "density": (lambda q: P.density(q.log_prob, BOX), Q),
}


@pytest.mark.parametrize("name", TRACED)
def test_inside_a_transform_a_picture_is_refused_in_words(name):
    call, argument = TRACED[name]
    words = f"^{name}: `\\w+` is inside `jit`, `vmap` or another transform"
    with pytest.raises(ValueError, match=words):
        jax.jit(call)(jax.tree.map(jnp.asarray, argument))


def test_a_missing_matplotlib_is_named_in_one_line_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    extra = 'pip install "divergence_flows[plot]"'
    for name, call in ONE.items():
        with pytest.raises(ImportError) as caught:
            call()
        assert str(caught.value).startswith(f"{name}: ") and extra in str(caught.value)
    project = tomllib.loads((pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text())
    (needed,) = project["project"]["optional-dependencies"]["plot"]
    assert needed.startswith("matplotlib>=")
