"""The architecture holds: imports point down, doors are documented, the type hook is alive."""

import ast
import graphlib
import importlib
import importlib.metadata
import inspect
import os
import pathlib
import subprocess
import sys
import types

import pytest
from jaxtyping import TypeCheckError

import divergence_flows as df
from divergence_flows import _types

PACKAGE = pathlib.Path(df.__file__).parent
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
PUBLIC_MODULES = ("bures", "divergences", "gans", "networks", "plot")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# From the ground up: a file imports from its own room, from rooms below, and from those of its row
# that stand before it.
FLOORS = (
    ("_hook", "_types", "_linalg"),
    ("_checks", "calculus", "bures"),
    ("divergences", "ratios", "networks", "flows"),
    ("gans", "gaussians", "fits", "runs"),
    ("training",),
    ("distillation", "estimates"),
    ("plot",),
    ("__init__",),
)
ROOMS = [room for floor in FLOORS for room in floor]
# A library, and where alone it is imported: a room or a file.
ONLY_IN = {"diffrax": ("flows/",), "optax": ("training/_update.py", "flows/_optimal_transport.py")}


def room(name):
    return name.split("/")[0].removesuffix(".py")


def imports(name):
    """Yields the parts of every name that a file imports."""
    here = (df.__name__, *name.split("/")[:-1])
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)


def ours(name):
    return [parts[1:] for parts in imports(name) if parts[0] == df.__name__]


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


def test_every_room_has_its_place():
    assert {room(name) for name in FILES} == set(ROOMS)


def test_imports_between_rooms_point_down():
    """Rooms of one floor stand in order too, so no two of them import each other."""
    wrong = [
        f"{name}: {'.'.join(parts)}"
        for name in FILES
        for parts in ours(name)
        if ROOMS.index(parts[0]) > ROOMS.index(room(name))
    ]
    assert not wrong


def test_no_file_imports_itself_by_a_detour():
    inside = {name: set() for name in FILES if not name.endswith("__init__.py")}
    for name, found in inside.items():
        for parts in ours(name):
            file = "/".join(parts[:2]) + ".py" if "/".join(parts[:2]) + ".py" in FILES else None
            found |= {file or f"{parts[0]}.py"} & set(inside)
    graphlib.TopologicalSorter(inside).prepare()  # raises CycleError


def test_files_import_each_other_and_no_room_as_a_whole():
    """An `__init__` hands names on, to users: a file that read it would read the whole room."""
    whole = [
        f"{name}: {'.'.join(parts)}"
        for name in FILES
        if not name.endswith("__init__.py")
        for parts in ours(name)
        if parts[0] not in ("_types", "_linalg", "_checks") and not parts[1].startswith("_")
    ]
    assert not whole


def test_diffrax_and_optax_have_their_one_place():
    for name in FILES:
        heads = {parts[0] for parts in imports(name)}
        for library, places in ONLY_IN.items():
            assert library not in heads or name.startswith(places), f"{name} imports {library}"


def test_imports_stand_at_the_top_and_none_is_for_type_checkers_alone():
    for name, tree in TREES.items():
        for function in functions(tree):
            inner = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inner, f"{name}: {function.name}"
        assert "TYPE_CHECKING" not in FILES[name].read_text(), name


def test_no_file_outgrows_400_lines_and_no_room_12_files():
    for name, path in FILES.items():
        assert len(path.read_text().splitlines()) <= 400, f"{name}: split the idea"
        assert len(list(path.parent.glob("*.py"))) <= 12, path.parent


def test_every_argument_and_result_is_annotated():
    for name, tree in TREES.items():
        for function in functions(tree):
            spec = function.args
            arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
            bare = {a.arg for a in arguments if a and a.annotation is None} - {"self", "cls"}
            assert not bare, f"{name}: {function.name}: {bare}"
            assert function.returns is not None or function.name == "__init__", function.name


def test_what_returns_a_function_makes_none_inside():
    """At module level it is made once; a new one at each call would retrace every solve."""
    functional = {"ScalarFn", "Field", "LogRatioFn", "Function", "Network"}
    for name, tree in TREES.items():
        for function in functions(tree):
            if ast.unparse(function.returns or ast.Constant(None)) in functional:
                inner = [n for n in ast.walk(function) if isinstance(n, (ast.Lambda, *FUNCTIONS))]
                decorator = function.name in ("differentiated_as", "decorate")  # at module level
                assert decorator or inner in ([], [function]), f"{name}: {function.name}"


def test_public_modules_show_public_names_alone():
    for module in PUBLIC_MODULES:
        shown = {name for name in dir(getattr(df, module)) if not name.startswith("_")}
        handed = {parts[-1] for parts in ours(f"{module}/__init__.py")}
        assert shown == handed, module


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


PUBLIC = dict(public_names())
PLAIN_FUNCTIONS = {
    name: value
    for name, value in PUBLIC.items()
    if inspect.isfunction(value) and inspect.signature(value).parameters
}


def test_every_public_name_has_a_docstring_of_its_own():
    for name, value in PUBLIC.items():
        assert len((inspect.getdoc(value) or "").split()) >= 4, name


def test_every_public_function_documents_its_arguments_and_result():
    for name, function in PLAIN_FUNCTIONS.items():
        doc = inspect.getdoc(function)
        parameters = [parameter.strip("*") for parameter in inspect.signature(function).parameters]
        missing = [part for part in ("Args:", "Returns:", *parameters) if part not in doc]
        missing += [parameter for parameter in parameters if f"{parameter}: " not in doc]
        assert not missing, f"{name}: {missing}"


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


IMPORT = """
import sys
import warnings
import diffrax, equinox, jax, optax, optimistix, scipy.optimize, scipy.stats
from jax._src import xla_bridge

def settings():
    return dict(jax.config.values), list(warnings.filters)

before = settings()
import divergence_flows
assert settings() == before, "import changed jax.config or the warnings filters"
assert not xla_bridge._backends, "import initialised a device"
assert "matplotlib" not in sys.modules, "pictures import matplotlib once they are drawn"
assert divergence_flows._types.as_float([1.0, 2.0]).shape == (2,)
"""


def test_import_has_no_side_effects_and_the_type_hook_can_be_turned_off():
    run = subprocess.run(
        [sys.executable, "-c", IMPORT],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"JAXTYPING_DISABLE": "1"},
        cwd=PACKAGE.parent,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_type_hook_is_alive_and_reaches_every_file():
    """It decorates what a module defines, and so wraps it."""
    with pytest.raises(TypeCheckError):
        _types.as_float([1.0, 2.0])
    for name, tree in TREES.items():
        module = importlib.import_module(".".join((df.__name__, *name[:-3].split("/"))))
        for node in tree.body:
            if isinstance(node, FUNCTIONS) and name not in ("__init__.py", "_hook.py"):
                assert hasattr(getattr(module, node.name), "__wrapped__"), f"{name}: {node.name}"


def test_version_is_the_one_of_the_installed_metadata():
    assert df.__version__ == importlib.metadata.version("divergence_flows")
