"""Bad input that any argument can be, and odd input that has a right answer.

Each law is a loop over all parameters of all functions in `bad_good.GOOD`; values with words of
their own stand in bad_*.py. An error raised while tracing is the same code eagerly and under jit.
"""

import inspect
import os
import typing

import bad_calculus
import bad_clouds
import bad_gaussians
import bad_training
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from bad_calculus import CLOSED_FORMS, ELEMENTWISE, GANS, LIMITS, OF_NONE, SUMS
from bad_good import GOOD, INF, NAN, NONE, function
from bad_input import annotated, calls_not_refused, failure, not_equal, not_refused, not_right
from catalogue import ROWS
from jaxtyping import TypeCheckError
from test_architecture import PLAIN_FUNCTIONS

import divergence_flows as df

# What the type hook lets in, for checks of our own to judge: a GAN or a model by its methods, a
# module, any arrays. `refresh` takes any module, and changes `spectral` layers alone.
CHECKED = {
    *{(name, "gan") for name in GOOD},
    *{("stl_loss", "q"), ("stl_loss", "h")},
    *{("over_devices", "tree"), ("networks.spectral", "network")},
    # Samples with their conditions, and batches of them.
    *{(name, "xs_p") for name in ("gradient_penalty", "gan_step", "train_gan")},
    *{(name, "xs_p") for name in ("distilled_step", "train_distilled")},
    ("denoising_loss", "xs"),
    ("gradient_penalty", "xs_q"),
    *{(name, xs) for name in ("transport", "train_flow_ratio") for xs in ("xs_q", "xs_p")},
    *{("particle_step", xs) for xs in ("xs", "xs_p")},
}
SUBJECTS, PATH = (bad_gaussians, bad_clouds, bad_training), os.PathLike
ANYTHING = {
    *{("networks.refresh", "network"), ("Nodes", "batches")},
    *{(name, "condition") for name in ("learned_log_ratio", "flow_log_ratio", "witness")},
}
# Samples may have any event shape: of one axis less they are numbers, or points of one number.
ANY_EVENT = {
    *("distillation_loss", "gradient_penalty", "with_log_prob", "langevin", "curve_length"),
    *("coupling", "wasserstein2", "displacement", "ratio_check", "particle_step", "gan_step"),
    *("drift_field", "transport", "train_gan", "train_flow_ratio", "FlowRatioState.start"),
    *("denoising_loss", "distilled_step", "train_distilled"),
    *("divergence_between", "mutual_information", "conditional_ratio"),
    *("velocity()", "gradient_flow()", "cloud_velocity()", "score_velocity()"),
}
# Numbers, arrays and trees of any shape, and points that go on to a network.
ANY_SHAPE = {"discriminator_loss", "generator_loss", "integrate", "settle", "witness()"}
ANY_SHAPE |= {"log_posterior", "log_posterior()"}
PASSED_ON = {"learned_log_ratio()", "flow_log_ratio()"}
MORE, FEWER, NUMBER = "one axis more", "one axis fewer", "a number"
LET_IN = {
    **{name: {MORE, FEWER} for name in ANY_EVENT | {"stl_loss"}},
    **{name: {MORE, FEWER, NUMBER} for name in ANY_SHAPE | PASSED_ON},
    # Laws of many times have one axis more, and a diagonal factor one fewer.
    "Gaussian": {MORE, FEWER},
    "Mixture": {MORE},
    "networks.TimeDiscriminator": {MORE, FEWER},
    **{name: {MORE} for name in ("variance_preserving", "variance_exploding")},
}
# Good too, or refused in words of its own: trees of no numbers, lists of times, bandwidths in rows.
GOOD_TOO = {
    *{(name, "y0", kind) for name in ("integrate", "settle") for kind in ("None", "a list")},
    *{(name, "ts", "a list") for name in GOOD},
    *((name, "q0", "None") for name in ("fit_gaussian", "fit_mixture")),
    *{(name, "xs", "None") for name in ("velocity()", "gradient_flow()", "score_velocity()")},
    ("heat_flow_divergence", "log_r", "None"),
    *{
        ("langevin", "x0", "None"),
        ("curve_length", "y0", "None"),
        ("dissipation", "grad_u", "None"),
    },
    *{(name, "bandwidth", MORE) for name in ("mmd_witness", "rff_log_ratio", "ulsif_ratio")},
}


def value_of(name, parameter, declared):
    """A good value, or one of its type where the default is None."""
    default = getattr(declared, "default", None)
    good = GOOD[name].get(parameter, default)
    if good is not None and good is not inspect.Parameter.empty:
        return good
    kinds = typing.get_args(getattr(declared, "annotation", None))
    return next(
        (kind(1) for kind in (float, int, str) if kind in kinds and PATH not in kinds), None
    )


def strangers(good):
    """Values of other types than this one, by what they are."""
    if isinstance(good, str):
        return {NUMBER: 3}
    if isinstance(good, bool):
        return {NUMBER: 3.5}
    if isinstance(good, int):  # a size is a Python integer, which a trace can see
        return {"a fraction": 2.5, "of jax": jnp.asarray(2)}
    if isinstance(good, float):
        return {"complex": 1j, "a list": [1.0], MORE: jnp.ones((2, 2))}
    if isinstance(good, list | tuple):
        return {"a word": "01", NUMBER: 1.0}
    if callable(good):
        return {"None": None, NUMBER: 3.5}
    if not isinstance(good, jax.Array | np.ndarray):
        return {"None": None, "an object": object()}
    if jnp.issubdtype(good.dtype, jax.dtypes.prng_key):
        return {NUMBER: 3, MORE: jr.split(good)}
    some = {"None": None, NUMBER: 1.0, MORE: good[None], FEWER: good[0]}
    return some | {"complex": good + 0j, "a list": np.asarray(good).tolist()}


def hook_name(name, parameter):
    """What the type hook calls a function; nothing where it only passes an argument on."""
    call = function(name)
    if parameter not in inspect.signature(call).parameters:
        return ""
    while hasattr(call, "func"):
        call = call.func
    return getattr(call, "__qualname__", "").lstrip("_")


def refused_by_type(name, parameter, changes):
    """What is wrong with a refusal by the type hook."""
    words = f"{hook_name(name, parameter)}: `{parameter}` is ", "; pass "
    said = failure(TypeCheckError, words, function(name), **GOOD[name] | changes)
    return [f"{changes}: {said}"] if said else []


def test_every_public_function_has_a_row():
    """Pictures, which no program holds, are refused in tests/plot."""
    pictures = {name for name in PLAIN_FUNCTIONS if name.startswith("plot.")}
    assert not set(PLAIN_FUNCTIONS) - pictures - set(GOOD)


@pytest.mark.parametrize("name", GOOD)
def test_an_argument_of_another_type_is_refused_by_its_name(name):
    wrong = []
    for parameter, declared in annotated(name).items():
        if (name, parameter) in CHECKED | ANYTHING:
            continue
        required = getattr(declared, "default", None) is inspect.Parameter.empty
        for kind, value in strangers(value_of(name, parameter, declared)).items():
            good = kind in LET_IN.get(name, ()) or (name, parameter, kind) in GOOD_TOO
            if not good and (required or kind != "None"):
                wrong += refused_by_type(name, parameter, {parameter: value})
    assert not wrong, "\n\n".join(wrong)


def test_what_the_hook_lets_in_is_refused_in_words_by_its_name():
    kinds = (object(), "a word", 3)
    rows = [
        (name, {parameter: value}, f"`{parameter}` ")
        for name, parameter in sorted(CHECKED)
        for value in kinds
        if parameter in annotated(name)
    ]
    assert not (said := not_refused(rows)), said


@pytest.mark.parametrize("name", [name for name in GOOD if "gan" in GOOD[name]])
def test_no_gan_is_refused_by_its_name(name):
    wrong = (df.divergences.kl_qp, None, "logit", 3)
    rows = [
        (name, {"gan": one}, f"`gan` is a {type(one).__name__}, which has no", "pass a GAN")
        for one in wrong
    ]
    assert not (said := not_refused(rows)), said


def lined_up(name):
    """Arrays that must share an axis with one before, longer along each such axis and along all."""
    before = set()
    for parameter, value in GOOD[name].items():
        if isinstance(value, jax.Array):
            axes = [axis for axis, size in enumerate(value.shape) if size in before]
            for longer in [*([axis] for axis in axes), axes] if axes else []:
                padding = [(0, int(axis in longer)) for axis in range(value.ndim)]
                yield parameter, np.pad(value, padding, constant_values=1)
            before |= set(value.shape)


def refused_for_its_shape(name, parameter, value):
    """What is wrong with a refusal of an array: by the type hook, or beside those before it."""
    words = f"`{parameter}` ", "; pass "
    return failure(
        (TypeCheckError, ValueError), words, function(name), **GOOD[name] | {parameter: value}
    )


def test_arrays_that_do_not_line_up_are_refused_by_name():
    wrong = [
        f"{name}, {parameter}: {said}"
        for name in GOOD
        for parameter, value in lined_up(name)
        if (said := refused_for_its_shape(name, parameter, value))
    ]
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_is_of_no_such_type_as_a_whole_is_refused_by_its_name(subject):
    wrong = [
        f"{name}: {said}"
        for name, changes, parameter in subject.TYPES
        for said in refused_by_type(name, parameter, changes)
    ]
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_wrong_value_is_refused_in_words(subject):
    assert not (said := not_refused(subject.VALUES)), said
    assert not (said := calls_not_refused(subject.CALLS)), said


def test_a_key_is_asked_for():
    for name in GOOD:
        without = {key: value for key, value in GOOD[name].items() if key != "key"}
        if len(without) < len(GOOD[name]):
            said = failure(TypeError, ("missing", "'key'"), function(name), **without)
            assert not said, f"{name}: {said}"


# Any number is good, or what it must be is known at run time: test_bad_contents.py.
ANY_NUMBER = {"t", "a", "c", "shift", "lam", "lower", "upper", "eps", "bandwidth", "ridge", "step"}
ANY_NUMBER |= {"d_p"}
GOOD_COUNTS = {("degree", 0), ("depth", 0)}
# In words of their own in bad_*.py; and uLSIF has no monomials.
OWN_WORDS = {("ratio_bandwidth", "degree"), ("mmd_witness", "features"), ("fit_gaussian", "n")}
OWN_WORDS |= {("train_flow_ratio", "horizon"), ("trapezoid", "dim")}
# A noise level may be any number.
OWN_WORDS |= {("networks.Denoiser()", "level"), ("networks.NoisedDiscriminator()", "level")}


def out_of_range(name):
    """Counts that are not positive, negative numbers and NaN, words that are none of a few."""
    for parameter, declared in annotated(name).items():
        good = value_of(name, parameter, declared)
        bad = {str: ("a word",), int: (0, -1), float: (-1.0, NAN)}.get(type(good), ())
        for value in () if parameter in ANY_NUMBER else bad:
            if (parameter, value) not in GOOD_COUNTS and (name, parameter) not in OWN_WORDS:
                yield name, {parameter: value}, f"`{parameter}` is {value!r}; "


def test_an_option_out_of_range_is_refused_with_its_value():
    rows = [row for name in GOOD for row in out_of_range(name)]
    assert len(rows) > 100
    assert not (said := not_refused(rows)), said


def test_times_that_do_not_increase_are_refused():
    falls = [[1.0, 0.0], [0.0, 0.5, 0.5], [0.0, INF], [0.0, NAN]]
    words = [(ts, "`ts` must increase", f"from {ts[-2]} to {ts[-1]}") for ts in falls]
    words += [(ts, f"`ts` holds {len(ts)} time(s)") for ts in ([], [0.0])]
    rows = [(name, {"ts": ts}, *some) for name in GOOD if "ts" in GOOD[name] for ts, *some in words]
    assert not (said := not_refused(rows)), said


# Nothing is lost: fields move no particles, r1 looks at p alone. Matrices and laws have rows of
# their own, and a density is refused by the type hook.
POINTS = ("x", "z")
NONE_IS_GOOD = {("gradient_penalty", "xs_q"), ("over_devices", "tree"), ("witness()", "x")}
NONE_IS_GOOD |= {
    ("velocity()", "xs"),
    ("score_velocity()", "xs"),
    ("gradient_flow()", "xs"),
    ("kde_log_prob()", "x"),
}


def emptied(name):
    """Each array with all others whose first axis is as long, empty; points of other sizes too."""
    arrays = {key: x for key, x in GOOD[name].items() if getattr(x, "ndim", 0)}
    for parameter, value in arrays.items():
        if (name, parameter) not in NONE_IS_GOOD and parameter not in ("ts", "weights"):
            first, *_ = lined = {key: x[:0] for key, x in arrays.items() if len(x) == len(value)}
            yield name, lined, f"`{first}` ", "; pass"
        if parameter in POINTS and (name, parameter) not in NONE_IS_GOOD and name != "stl_loss":
            for n in {1, 2 * len(value)} - {len(value)}:
                yield (
                    name,
                    {parameter: np.resize(value, (n, *value.shape[1:]))},
                    f"`{parameter}` has sh",
                )


def test_no_samples_and_points_of_other_sizes_are_refused():
    laws = ("Gaussian", "LowRankGaussian", "Mixture")
    names = [name for name in GOOD if not name.startswith("bures.") and name not in laws]
    rows = [row for name in names for row in emptied(name)]
    assert not (said := not_refused(rows)), said


@pytest.mark.parametrize("subject", (bad_calculus, *SUBJECTS))
def test_odd_input_has_its_right_answer(subject):
    assert not (said := not_right(subject.ANSWERS)), said


def test_elementwise_functions_take_any_shape_and_end_in_their_limits():
    good = np.array([[0.5, 1.5, 2.0]])
    x = jnp.array([[*good[0], NAN, INF, -INF]])
    found = jax.jit(lambda x: [call(x) for call, *_ in CLOSED_FORMS.values()])(x)
    for (name, (_, closed, limits)), value in zip(CLOSED_FORMS.items(), found, strict=True):
        wanted = np.concatenate([closed(good), [limits]], axis=1)
        assert not (said := not_equal(value, wanted)), f"{name}: {said}"


def test_elementwise_functions_of_no_numbers_give_none():
    found = jax.jit(lambda x: [call(x) for call in OF_NONE])(NONE)
    assert all(value.shape == (0,) for value in found)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_refuse_what_is_no_real_number(name):
    words = ": `", "` is ", "; pass a real or boolean array"
    for wrong in (1j, [1.0], "1"):
        assert not (said := failure(TypeCheckError, words, ELEMENTWISE[name], wrong)), said


def test_sums_are_no_elementwise_functions():
    words = " returns ", "; it must return "
    for call in SUMS:
        assert not (said := failure(TypeCheckError, words, call, jnp.array([0.5, 1.5]))), said


def of_r(name):
    """Fields of a ratio; the f of arcsinh is by quadrature, its f'' = h' / r^2 elementary."""
    return ("f_second",) if name == "arcsinh" else ("f", "f_prime", "f_second")


def at_edges(r, u, s):
    """Fields of all divergences where they end."""
    found = {}
    for name, (*_, closed) in LIMITS.items():
        div, fields = ROWS[name], of_r(name)
        wide, flat = ([getattr(div, field)(x) for field in fields] for x in (r, r[0, :2]))
        conjugate = div.conjugate(s) if closed else jnp.array([[NAN]])
        found[name] = wide, flat, div.f(r[:, 4:]), div.h(u), div.activation(u[:, :1]), conjugate
    return found


def test_divergences_are_nan_outside_their_domain_and_have_their_limits_at_its_ends():
    r = jnp.array([[1.0, 2.0, -1.0, -2.0, NAN, 0.0, INF]])
    found = jax.jit(at_edges)(r, jnp.array([[NAN, INF, -INF]]), jnp.array([[NAN, 3.0, 4.0]]))
    for name, (at_0, at_inf, top, bottom, ends, closed) in LIMITS.items():
        wide, flat, f, h, activation, conjugate = found[name]
        infinite = np.array([[NAN, INF, INF]])[:, : 3 if ends and closed else 1]
        inside, outside = [x[0, :2] for x in wide], [x[0, 2:5] for x in wide]
        values = inside, outside, f, h, activation, conjugate[:, : infinite.size]
        limits = [np.array([[NAN, *two]]) for two in ((at_0, at_inf), (top, bottom), ())]
        wanted = flat, [np.full(3, NAN)] * len(wide), *limits, infinite
        assert not (said := not_equal(values, wanted)), f"{name}: {said}"


def test_gans_undo_their_log_ratio_and_give_nan_for_nan():
    u = jnp.array([[-0.5, 0.25, NAN]])
    back = lambda gan, u: gan.log_t(gan.inverse(u))
    players = lambda gan, u: [f(u[0, 2:]) for f in (gan.phi, gan.psi, gan.h_t)]
    both = lambda u: {name: (back(gan, u), players(gan, u)) for name, gan in GANS.items()}
    for name, (again, others) in jax.jit(both)(u).items():
        assert not (said := not_equal(again, u, 1e-5)), f"{name}: {said}"
        assert np.isnan(others).all(), name
