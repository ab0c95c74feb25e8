"""Samples of a run as a function of the step, as an iterable, and with conditions."""

import itertools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from small_runs import OPTIONS, RUNS, TS, XS_P, XS_Q, Stopped, clock, critic, maker, same, sgd

from small_runs import steps_in, stop_at_20  # isort: skip

import divergence_flows as df

transport, train_gan, train_flow_ratio = RUNS.values()
on_every_loop = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
SGD = sgd(0.01)
ROWS = np.asarray(jr.normal(jr.key(3), (32 * 30, 2)) + 2)


def batch(step):
    return ROWS[32 * step : 32 * step + 32]


class Loader:
    """A loader as torch has it: tensors in lists, another order each time, the last one smaller."""

    def __init__(self, rows=ROWS, size=32):
        self.rows, self.size, self.begun = rows, size, 0

    def __iter__(self):
        self.begun += 1
        for start in range(0, len(self.rows), self.size):
            yield [Tensor(self.rows[start : start + self.size])]


class Tensor:
    def __init__(self, rows):
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __array__(self, dtype=None, copy=None):
        return self.rows

    def __len__(self):
        return len(self.rows)


class Rewinding:
    """An iterator as grain has it."""

    def __init__(self, as_bytes):
        self.at, self.as_bytes = 0, as_bytes

    def __iter__(self):
        return self

    def __next__(self):
        self.at += 1
        return batch(self.at - 1)

    def get_state(self):
        state = {"at": self.at}
        return json.dumps(state).encode() if self.as_bytes else state

    def set_state(self, state):
        self.at = (json.loads(state) if self.as_bytes else state)["at"]


@on_every_loop
def test_the_same_batch_at_each_step_is_an_array(run):
    same(run(xs_p=lambda step: np.asarray(XS_P)), run(xs_p=XS_P))
    same(run(xs_p=[np.asarray(XS_P, np.float64)]), run(xs_p=XS_P))


def test_a_step_of_a_loop_sees_its_own_batch():
    state, _ = train_gan(xs_p=batch)
    by_hand = df.GANState.start(critic(), maker(), SGD, SGD)
    step = eqx.filter_jit(df.gan_step)
    for k in range(30):
        key = jr.fold_in(jr.key(4), k)
        by_hand, _ = step(
            df.gans.vanilla(), SGD, SGD, by_hand, batch(k), latent=3, batch_size=16, key=key
        )
    same(state.step, by_hand.step)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_loader_is_read_again_at_its_end_and_its_rows_cut_into_equal_batches():
    rows = ROWS[:80]  # 32, 32 and 16 rows
    around = np.concatenate([rows] * 13)
    loader = Loader(rows)
    same(transport(xs_p=loader), transport(xs_p=lambda k: around[32 * k : 32 * k + 32]))
    assert loader.begun == 12  # 960 rows, 80 at a time


@on_every_loop
@pytest.mark.parametrize(
    "stream", [lambda: batch, lambda: Rewinding(True), lambda: Rewinding(False)]
)
def test_a_stopped_run_of_batches_resumes_bit_for_bit(run, stream, tmp_path):
    file = tmp_path / "run"
    with pytest.raises(Stopped):
        run(xs_p=stream(), checkpoint=file, on_chunk=stop_at_20)
    same(run(xs_p=stream(), checkpoint=file), run(xs_p=batch))
    with pytest.raises(ValueError, match="written with other numbers: other data"):
        run(xs_p=lambda step: batch(step) + 1e-3, checkpoint=file)


def test_what_cannot_be_rewound_has_no_checkpoint(tmp_path):
    with pytest.raises(ValueError) as refusal:
        transport(xs_p=Loader(), checkpoint=tmp_path / "run")
    assert str(refusal.value) == (
        "transport: `xs_p` is an iterable that cannot be rewound, so that no run with `checkpoint` "
        "could go on from it; pass a function `batch(step)`, or an iterator with `get_state` and "
        "`set_state`, as grain's have."
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stream", "words"),
    {
        "ended": (lambda: (batch(k) for k in range(25)), "`xs_p` ended before step 25; pass what "),
        "none": (lambda: [], "`xs_p` has no batches; pass one at least."),
        "another shape": (
            lambda: lambda k: batch(k) if k < 12 else batch(k)[:, :1],
            "`xs_p` has (float32[32,1]) at step 12, and (float32[32,2]) at step 0; make samples",
        ),
        "fewer": (
            lambda: lambda k: batch(k)[: 32 - k],
            "`xs_p` has 31 samples at step 1, and 32 at step 0; make as many at each step.",
        ),
        "NaN": (
            lambda: lambda k: batch(k) * (np.nan if k == 7 else 1.0),
            "`xs_p` has NaN or inf at step 7; drop those samples first.",
        ),
        "words": (lambda: "samples", "`xs_p` is a str; pass an array with one sample a row, or a"),
        "names": (lambda: {"x": XS_P}, "`xs_p` is a dict; pass an array"),
        "three": (lambda: (XS_P, XS_P, XS_P), "pass an array with one sample a row, or a tuple"),
        "conditions": (lambda: (XS_P, np.zeros(95)), "pass one condition for each sample."),
        "text": (lambda: np.array([["a", "b"]]), "pass real numbers."),
        "events": (lambda: jnp.ones((4, 3)), "`xs_q` has events (2,), `xs_p` (3,); pass samples"),
    }.values(),
)
def test_batches_that_fit_no_step_are_refused_in_one_line(stream, words):
    with pytest.raises(ValueError) as refusal:
        transport(xs_p=stream())
    text = str(refusal.value)
    assert text.startswith("transport: ") and words in text and "\n" not in text


def test_an_error_of_the_next_batches_waits_until_a_chunk_is_saved(tmp_path):
    def breaks(step):
        if step == 22:
            raise OSError("the disk is gone")
        return batch(step)

    seen, file = [], tmp_path / "run"
    with pytest.raises(OSError, match="the disk is gone"):
        transport(xs_p=breaks, checkpoint=file, on_chunk=lambda s, m: seen.append(int(s.step)))
    assert seen == [10, 20]
    same(transport(xs_p=batch, checkpoint=file), transport(xs_p=batch))


@on_every_loop
@pytest.mark.parametrize(
    ("options", "what"),
    [({"xs_p": batch}, "batches of each step"), ({"on_chunk": print}, "`on_chunk`")],
)
def test_the_host_inside_a_trace_is_refused(run, options, what):
    with pytest.raises(ValueError, match=f"{run.__name__}: {what} need the host"):
        jax.vmap(lambda key: run(key=key, **options)[0])(jr.split(jr.key(0)))
    with pytest.raises(ValueError, match=f"{run.__name__}: {what} need the host"):
        jax.jit(lambda: run(**options)[0])()


def test_particles_and_the_clouds_of_the_sequential_form_are_no_batches():
    for run in (transport, train_flow_ratio):
        with pytest.raises(ValueError, match=r"`xs_q` makes batches, and .*; pass an array"):
            run(xs_q=batch)
    options = {"ts": TS, "form": "self_consistent", "xs_p": XS_P}
    same(
        train_flow_ratio(xs_q=lambda k: np.asarray(XS_Q), **options),
        train_flow_ratio(xs_q=XS_Q, **options),
    )


# Conditions.

LABELS_Q, LABELS_P = jnp.arange(64) % 3, jnp.arange(96) % 3


class Blind(eqx.Module):
    """A network that gets a condition, and does not look at it."""

    network: eqx.Module

    def __call__(self, *inputs):
        return self.network(*inputs[:-1])


NETWORKS = {
    transport: {"d": critic},
    train_gan: {"d": critic, "g": maker},
    train_flow_ratio: {"d": clock},
}


@on_every_loop
def test_conditions_that_no_network_looks_at_change_nothing(run):
    data = {"xs_p": (XS_P, {"label": LABELS_P})}
    if run is not train_gan:
        data["xs_q"] = (XS_Q, {"label": LABELS_Q})
    blind = {name: Blind(make()) for name, make in NETWORKS[run].items()}
    found, plain = run(**data, **blind)[0], run()[0]
    same(jax.tree.leaves(found), jax.tree.leaves(plain))


def test_conditions_reach_each_sample_of_a_batch_and_each_particle():
    # d sees whether x and c fit: c is the first coordinate of its own x.
    seen = lambda x, c: jnp.where(c == x[0], x[1], jnp.nan)
    xs_p, xs_q = np.asarray(XS_P), np.asarray(XS_Q)
    state = df.RatioState.start(seen, SGD)
    both = (xs_q, xs_q[:, 0]), (xs_p, xs_p[:, 0])
    for options in ({}, {"batch_size": 8, "key": jr.key(0)}, {"penalty": "r1"}):
        _, info = df.ratio_step(df.gans.logit(), SGD, state, both, **options)
        assert np.isfinite(info.loss)
    moved, _ = df.particle_step(df.gans.logit(), seen, both[0], 0.1)
    assert moved.shape == (64, 2) and np.isfinite(moved).all()
    # Batches of a stream too, and rows of several batches put together.
    pairs = [(xs_p[:40], xs_p[:40, 0]), (xs_p[40:], xs_p[40:, 0])]
    made = df.train_gan(
        *(df.gans.logit(), Fits(jnp.zeros(())), Copies(jnp.zeros(())), itertools.cycle(pairs)),
        **{"latent": 1, "steps": 4, "batch_size": 8, "key": jr.key(1)},
    )[1]
    assert np.isfinite(made.d_losses).all()


class Fits(eqx.Module):
    """A critic that is NaN where x and its condition are not of one sample."""

    slope: jax.Array

    def __call__(self, x, c):
        return jnp.where(c == x[0], self.slope * x[1], jnp.nan)


class Copies(eqx.Module):
    """A generator whose sample begins with its condition."""

    shift: jax.Array

    def __call__(self, z, c):
        return jnp.stack([c, z[0] + self.shift])


def test_each_class_of_particles_moves_to_its_own_class_of_p():
    centres = jnp.array([[-2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    xs_p = centres[LABELS_P] + 0.1 * jr.normal(jr.key(1), (96, 2))
    network = df.networks.Discriminator(5, 32, 2, key=jr.key(2))
    d = OneHot(network)
    moved, _ = df.transport(
        *(df.gans.logit(), d, (0.5 * XS_Q, LABELS_Q), (xs_p, LABELS_P)),
        **{"steps": 400, "step_size": 0.05, "key": jr.key(3)},
    )
    for label, centre in enumerate(centres):
        np.testing.assert_allclose(moved[LABELS_Q == label].mean(0), centre, atol=0.35)


class OneHot(eqx.Module):
    network: eqx.Module

    def __call__(self, x, label):
        return self.network(jnp.concatenate([x, jax.nn.one_hot(label, 3)]))


# Ends, and beginnings again.


@on_every_loop
def test_a_callback_that_returns_true_ends_the_run_as_if_steps_had_been_fewer(run):
    seen = []

    def look(state, metrics):
        seen.append(metrics)
        return np.bool(state.step == 20)

    rest = {"form": "self_consistent"} if run is train_flow_ratio else {}
    ended, whole = run(on_chunk=look, **rest), run(steps=20, **rest)
    same(ended, whole)
    for name, part in seen[1].items():
        assert isinstance(part, np.ndarray) and part.shape == (10,)
        if name != "step_sizes":
            np.testing.assert_array_equal(part, getattr(whole[1], name)[10:])


@on_every_loop
def test_a_finished_run_is_extended(run, tmp_path):
    rest = {"form": "self_consistent"} if run is train_flow_ratio else {}
    file = tmp_path / "run"
    run(steps=20, checkpoint=file, **rest)
    same(run(steps=30, checkpoint=file, **rest), run(steps=30, **rest))
    with pytest.raises(ValueError, match="holds step 30, and this run has 20 steps"):
        run(steps=20, checkpoint=file, **rest)


def test_defaults_that_end_with_the_run_are_not_extended(tmp_path):
    options = {**OPTIONS, "checkpoint": tmp_path / "run", "key": jr.key(0)}
    df.transport(df.gans.logit(), critic(), XS_Q, XS_P, **options)
    with pytest.raises(ValueError, match="to extend a run pass an optimizer and a step size that"):
        df.transport(df.gans.logit(), critic(), XS_Q, XS_P, **{**options, "steps": 40})


def test_a_checkpoint_is_written_every_so_many_steps_and_at_the_end(tmp_path):
    file, found = tmp_path / "run", []
    look = lambda state, metrics: found.append((int(state.step), steps_in(file)))
    transport(steps=25, chunk=5, save_every=12, checkpoint=file, on_chunk=look)
    assert found == [(5, 0), (10, 0), (15, 15), (20, 15), (25, 25)]
    ends = lambda state, metrics: bool(state.step == 10)
    transport(steps=25, chunk=5, save_every=12, checkpoint=tmp_path / "x", on_chunk=ends)
    assert steps_in(tmp_path / "x") == 10


@on_every_loop
def test_progress_is_shown_on_a_terminal_only(run, monkeypatch, capsys):
    run()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    run(progress=False)
    jax.vmap(lambda key: run(key=key, steps=10)[0])(jr.split(jr.key(0)))
    assert capsys.readouterr() == ("", "")
    run()
    jax.effects_barrier()
    assert "100.00%" in capsys.readouterr().err


def test_potentials_of_a_conditional_network_are_those_of_its_slice():
    d = OneHot(df.networks.Discriminator(5, 8, 1, key=jr.key(2)))
    slice_of = lambda x: d(x, jnp.asarray(1))
    over_time = lambda t, x, c: t * d(x, c)
    gan, x = df.gans.logit(), jnp.array([0.3, -0.2])
    for one, other in (
        (df.learned_log_ratio(gan, d, 1), df.learned_log_ratio(gan, slice_of)),
        (df.witness(d, 1), df.witness(slice_of)),
        (
            df.flow_log_ratio(gan, over_time, 1),
            df.flow_log_ratio(gan, lambda t, x: over_time(t, x, 1)),
        ),
    ):
        assert float(one(0.5, x, None)) == float(other(0.5, x, None)) != 0
