"""The architecture holds: imports point down, doors are documented, the type hook is alive."""

import ast
import importlib
import importlib.metadata
import inspect
import os
import pathlib
import subprocess
import sys
import types

import jax.numpy as jnp
import jax.random as jr
import pytest
from jaxtyping import TypeCheckError

import divergence_flows as df

PACKAGE = pathlib.Path(df.__file__).parent
FILES = {path.stem: path for path in sorted(PACKAGE.glob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
PUBLIC_MODULES = [name for name in FILES if not name.startswith("_")]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# Lowest first. A module imports only from rows below its own.
ROWS = (
    {"_types", "_checkpoint", "_devices", "_diverged"},
    {"_doors"},
    {"_callables"},
    {
        "_resume",
        "_monotone",
        "_stable",
        "_states",
        "_quadrature",
        "_matrix",
        "_nodes",
        "_convolution",
        "_optimizer",
        "_penalty",
        "_spectral",
        "_blocks",
    },
    {
        "_calculus",
        "_estimators",
        "_velocity",
        "_flow",
        "_optimal_transport",
        "_features",
        "_gaussian",
        "_bures",
        "_conv_networks",
        "_layers",
    },
    {"_time_network"},
    {"_gaussian_moments", "_own_units", "_langevin", "_settle", "_psis", "networks", "_loop"},
    {
        "_divergence",
        "_links",
        "_gan",
        "_path_length",
        "_losses",
        "_gaussian_flow",
        "_mixture",
        "_path_gradient",
        "_bandwidth",
        "bures",
    },
    {"_kernels", "_ratios", "_row"},
    {"_ulsif", "_row_families"},
    {"divergences", "_gaussian_rest", "_gaussian_verdict", "_ipm", "_gan_recipe", "_ratio_choice"},
    {"gans", "_gaussian_fit"},
    {"_train", "_flow_losses", "_flow_recipe"},
    {"_chunk", "_gan_step", "_flow_path"},
    {"_transport", "_gan_train", "_flow_ratio"},
    {"_flow_train"},
    {"__init__"},
)
ROW = {name: height for height, names in enumerate(ROWS) for name in names}
ONLY_IMPORTERS = {"diffrax": {"_flow", "_langevin"}, "optax": {"_optimizer", "_optimal_transport"}}

on_every_file = pytest.mark.parametrize("name", FILES)


def imported(tree):
    """Yields (is ours, module) for every import in a file of the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                head, _, rest = alias.name.partition(".")
                yield head == "divergence_flows", rest or head if head == df.__name__ else head
        elif isinstance(node, ast.ImportFrom):
            ours = node.level > 0 or node.module.split(".")[0] == df.__name__
            module = (node.module or "").removeprefix(df.__name__).lstrip(".")
            if ours and not module:  # from . import a, b
                yield from ((True, alias.name) for alias in node.names)
            else:
                yield ours, module.split(".")[0]


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


@on_every_file
def test_every_module_has_a_row(name):
    assert name in ROW, f"{name}: give it a row in this file"


@on_every_file
def test_imports_point_down(name):
    ours = {module for is_ours, module in imported(TREES[name]) if is_ours}
    upward = {module for module in ours if ROW[module] >= ROW[name]}
    assert not upward


@on_every_file
def test_diffrax_and_optax_have_their_one_door(name):
    others = {module for is_ours, module in imported(TREES[name]) if not is_ours}
    assert all(name in doors for lib, doors in ONLY_IMPORTERS.items() if lib in others)


@on_every_file
def test_imports_stand_at_the_top_and_none_is_for_type_checkers_alone(name):
    for function in functions(TREES[name]):
        assert not any(
            isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(function)
        )
    assert "TYPE_CHECKING" not in FILES[name].read_text()


@on_every_file
def test_no_file_outgrows_400_lines(name):
    assert len(FILES[name].read_text().splitlines()) <= 400, f"{name}: split the idea"


@on_every_file
def test_every_argument_and_result_is_annotated(name):
    for function in functions(TREES[name]):
        spec = function.args
        arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
        bare = [a.arg for a in arguments if a and a.annotation is None]
        assert set(bare) <= {"self", "cls"}, f"{function.name}: {bare}"
        assert function.returns is not None or function.name == "__init__", function.name


@on_every_file
def test_no_lambda_is_made_by_a_call(name):
    """At module level, in a table, it is made once; in a function each call would retrace."""
    made = [n for function in functions(TREES[name]) for n in ast.walk(function)]
    assert not [n.lineno for n in made if isinstance(n, ast.Lambda)]


def public_names():
    """Yields (dotted name, object) for all that a user can reach without an underscore."""
    for name, value in vars(df).items():
        if not name.startswith("_") and not isinstance(value, types.ModuleType):
            yield name, value
    for name in PUBLIC_MODULES:
        module = importlib.import_module(f"{df.__name__}.{name}")
        yield name, module
        for attribute, value in vars(module).items():
            ours = str(getattr(value, "__module__", "")).startswith(df.__name__)
            if ours and not attribute.startswith("_"):
                yield f"{name}.{attribute}", value


DOORS = dict(public_names())
PLAIN_FUNCTIONS = {
    name: value
    for name, value in DOORS.items()
    if inspect.isfunction(value) and inspect.signature(value).parameters
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_every_public_name_has_a_docstring_of_its_own(door):
    assert len((inspect.getdoc(door) or "").split()) >= 4


@pytest.mark.parametrize("function", PLAIN_FUNCTIONS.values(), ids=PLAIN_FUNCTIONS)
def test_every_public_function_tells_its_arguments_and_result(function):
    doc = inspect.getdoc(function)
    assert "Args:" in doc
    assert "Returns:" in doc
    missing = [p for p in inspect.signature(function).parameters if f"{p.strip('*')}: " not in doc]
    assert not missing


def test_all_public_names_are_ours():
    strangers = {
        name
        for name, value in vars(df).items()
        if not name.startswith("_")
        and not getattr(value, "__module__", getattr(value, "__name__", df.__name__)).startswith(
            df.__name__
        )
    }
    assert not strangers


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
        cwd=PACKAGE.parent,
        check=False,
    )


IMPORT = """
import warnings
import diffrax, equinox, jax, optax, optimistix, scipy.optimize, scipy.stats
from jax._src import xla_bridge

def settings():
    return dict(jax.config.values), list(warnings.filters)

before = settings()
import divergence_flows
assert settings() == before, "import changed jax.config or the warnings filters"
assert not xla_bridge._backends, "import initialised a device"
"""


def test_import_has_no_side_effects():
    run = python(IMPORT)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def of(module):
    return importlib.import_module(f"{df.__name__}.{module}")


def critic():
    return of("networks").Discriminator(2, key=jr.key(0))


# For each module that has functions, one call with a wrong rank or dtype. All must be refused.
CLOUD, POINT, FLAT = jnp.ones((3, 2)), jnp.ones(2), jnp.ones(())
WRONG = {
    "_types": lambda: of("_types").as_float([1.0, 2.0]),
    "_monotone": lambda: of("_monotone").root(jnp.exp, jnp.sinh, POINT, FLAT),
    "_callables": lambda: of("_callables").check_critic("a test", "d", critic(), xs=[1.0]),
    "_doors": lambda: of("_doors").check_cloud("a test", "xs", [1.0]),
    "_stable": lambda: of("_stable").times_r(jnp.arange(3), 1.0),
    "_calculus": lambda: df.f_to_h(jnp.log)(jnp.ones(2, complex)),
    "_velocity": lambda: df.dissipation(jnp.sin, CLOUD, CLOUD),
    "_flow": lambda: df.integrate(jnp.sin, POINT, CLOUD),
    "_langevin": lambda: df.langevin(jnp.sin, POINT, CLOUD, key=jr.key(0)),
    "_settle": lambda: df.settle(jnp.sin, POINT > 0),
    "_psis": lambda: of("_psis").pareto_k(CLOUD),
    "_gaussian_fit": lambda: df.fit_gaussian(jnp.sum, CLOUD, key=1),
    "_gaussian_rest": lambda: of("_gaussian_rest").climb(jnp.sum, POINT, [], 1, FLAT, {}),
    "_gaussian_verdict": lambda: of("_gaussian_verdict").verdict(1, FLAT, FLAT, FLAT, POINT, True),
    "_own_units": lambda: of("_own_units")._in_units_of(POINT, FLAT),
    "_states": lambda: of("_states").cast_times(FLAT, CLOUD, None),
    "_path_length": lambda: df.curve_length(jnp.sin, POINT, CLOUD),
    "_divergence": lambda: df.divergences.pearson.f(jnp.ones(2, complex)),
    "_row_families": lambda: of("_row_families")._alpha_f(FLAT, jnp.arange(3)),
    "_row": lambda: of("_row").Solved(jnp.exp, jnp.exp, jnp.exp, 1.0)(jnp.arange(3)),
    "_quadrature": lambda: of("_quadrature").derivative(jnp.log, jnp.arange(3)),
    "_estimators": lambda: df.lift(jnp.log, jnp.log)(jnp.ones(2, complex)),
    "_gan": lambda: df.gans.logit().measures(jnp.ones(2, complex)),
    "_links": lambda: of("_links").logit(jnp.arange(3)),
    "_nodes": lambda: df.Nodes(CLOUD, CLOUD),
    "_gaussian": lambda: df.Gaussian(POINT, CLOUD),
    "_gaussian_moments": lambda: of("_gaussian_moments").moments(
        "a test", jnp.sum, CLOUD, None, "stein"
    ),
    "_gaussian_flow": lambda: df.gaussian_field(jnp.sum, CLOUD),
    "divergences": lambda: df.divergences.alpha(POINT),
    "gans": lambda: df.gans.vanilla(POINT),
    "networks": lambda: critic()(CLOUD),
    "_layers": lambda: of("_layers").forward((jnp.sin,), jnp.sin, jnp.sin, CLOUD),
    "_time_network": lambda: of("_time_network").decays(1.0, POINT, 3),
    "_flow_losses": lambda: of("_flow_losses").ratio_losses(
        df.gans.logit(), jnp.sin, CLOUD, CLOUD, CLOUD
    ),
    "_flow_recipe": lambda: of("_flow_recipe").check_flow(1, 1),
    "_flow_path": lambda: of("_flow_path").jittered(CLOUD, jr.key(0)),
    "_flow_ratio": lambda: of("_flow_ratio").take(1, 1, (CLOUD, CLOUD), jr.key(0)),
    "_flow_train": lambda: df.train_flow_ratio(
        df.gans.logit(), critic(), FLAT, CLOUD, horizon=1.0, key=jr.key(0)
    ),
    "_convolution": lambda: of("_convolution").convolve(CLOUD, CLOUD),
    "_conv_networks": lambda: df.networks.ConvDiscriminator(8, 2, 2, key=jr.key(0))(CLOUD),
    "_losses": lambda: of("_losses").distillation_loss(CLOUD, jnp.ones((4, 2)), 0.1),
    "_train": lambda: of("_train").particle_step(df.gans.logit(), critic(), CLOUD, POINT),
    "_devices": lambda: of("_devices")._place(CLOUD, 1),
    "_checkpoint": lambda: of("_checkpoint").load("a string.npz", {}, "a test"),
    "_resume": lambda: of("_resume").count({"losses": 1}),
    "_diverged": lambda: of("_diverged").error("a test", "many", 0, {}, {}, None, None),
    "_chunk": lambda: of("_chunk").step(1, 1),
    "_optimizer": lambda: of("_optimizer").game_optimizer("fast"),
    "_spectral": lambda: df.networks.spectral(critic(), key=1.0),
    "_penalty": lambda: df.gradient_penalty("r1", critic(), FLAT, FLAT, key=1.0),
    "_loop": lambda: of("_loop").as_path(1, "file", CLOUD),
    "_ipm": lambda: df.IPM(1.0, 1.0, 1.0),
    "_gan_recipe": lambda: of("_gan_recipe").check_recipe(1, 1),
    "_gan_step": lambda: of("_gan_step").take(1, 1, CLOUD, jr.key(0)),
    "_gan_train": lambda: df.train_gan(
        df.gans.logit(), critic(), critic(), CLOUD, latent=2, key=1.0
    ),
    "_transport": lambda: of("_transport").transport(
        df.gans.logit(), critic(), FLAT, CLOUD, key=jr.key(0)
    ),
    "_blocks": lambda: of("_blocks").blocks(CLOUD, CLOUD, "many"),
    "_bandwidth": lambda: df.median_bandwidth(FLAT),
    "_features": lambda: of("_features").gaussian_kernel(FLAT, CLOUD),
    "_kernels": lambda: df.kde_log_prob(FLAT),
    "_ratios": lambda: df.rff_log_ratio(CLOUD, FLAT, key=jr.key(0)),
    "_ulsif": lambda: df.ulsif_ratio(CLOUD, FLAT, key=jr.key(0)),
    "_ratio_choice": lambda: df.ratio_bandwidth(CLOUD, FLAT, key=jr.key(0)),
    "_matrix": lambda: of("_matrix").sqrt(CLOUD),
    "_bures": lambda: of("_bures").excess(CLOUD, CLOUD),
    "bures": lambda: df.bures.distance(CLOUD, CLOUD),
    "_mixture": lambda: df.Mixture(FLAT, CLOUD, CLOUD),
    "_path_gradient": lambda: df.stl_loss(jnp.sin, df.Gaussian(POINT, POINT), FLAT),
    "_optimal_transport": lambda: df.wasserstein2(CLOUD, jnp.ones((4, 2))),
}
WITH_FUNCTIONS = {name for name, tree in TREES.items() if functions(tree)}


def test_the_table_of_wrong_calls_covers_every_module():
    assert set(WRONG) == WITH_FUNCTIONS


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_the_type_hook_is_alive(call):
    with pytest.raises(TypeCheckError):
        call()


def test_the_type_hook_can_be_turned_off():
    code = "from divergence_flows import _types; print(_types.as_float([1.0, 2.0]))"
    assert "TypeCheckError" in python(code, JAXTYPING_DISABLE="0").stderr
    run = python(code, JAXTYPING_DISABLE="1")
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[1. 2.]\n"


def test_version_is_the_one_of_the_installed_metadata():
    assert df.__version__ == importlib.metadata.version("divergence_flows")
