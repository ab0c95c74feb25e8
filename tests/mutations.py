"""One wrong character in a formula must fail a test: a spot check of the suite itself.

python tests/mutations.py [WORD ...]     those whose module or formula has one of the words, or all

Each mutation is made in a copy of the package, on which a few laws near it run. `nox -s mutations`.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]

# A module; a formula in it, and the same with one character (or one transpose) wrong; the laws
# that must notice: a file of tests, and words of their names.
MUTATIONS = """
calculus/_duality | f(r) - r * derivative | f(r) + r * derivative | calculus | first_variation
calculus/_duality | jnp.exp(u) - log_f(u) | jnp.exp(u) + log_f(u) | calculus | conjugate_meets
divergences/_table | -expm1(-u / 2) | -expm1(u / 2) | divergence_digits | named_rows and hellinger
divergences/_table | exp(-u / 2) / 2 | exp(-u / 2) * 2 | divergence_digits | hellinger
divergences/_table | u: softplus(u) / 2 | u: softplus(u) * 2 | divergences | closed_forms and jensen
divergences/_families | 1 - a * exp_of | 1 + a * exp_of | divergence_digits | every_order
divergences/_families | * (1 - t) / ( | * (1 + t) / ( | divergence_digits | every_shift
calculus/_quadrature | (_FEW_NODES + 1) / 2 | (_FEW_NODES - 1) / 2 | calculus | h_to_f_undoes
divergences/_stable | jnp.log1p(-d) | jnp.log1p(d) | gans | inverse_undoes and least
gans/_table | -jnp.exp(d - 1) | -jnp.exp(d + 1) | gans | log_t_is_minus and nwj
gaussians/_gaussian | (gap + jnp.sum | (gap - jnp.sum | gaussian | kl_is_the_textbooks
gaussians/_gaussian | change * (2 + change) | change * (2 - change) | gaussian | diagonal
gaussians/_gaussian | sum(z**2) | sum(z**3) | gaussian | log_prob_is
gaussians/_forward_backward | roots**2 + 4 * step | roots**2 - 4 * step | geometry | fixed_point
gaussians/_flows | (q.scale.T, moment)) | (q.scale, moment)) | geometry | precision_and_mean
bures/_maps | lengths**2), b - a) | lengths**2), b + a) | bures_digits | whatever_the_scales
bures/_maps | db - product(t, da | db + product(t, da | bures_digits | whatever_the_scales
bures/_maps | other * inside.T) | other * inside) | hypothesis_geometry | tangents_split
_linalg | 0.5 * a + 0.5 * a.T | 0.5 * a + 0.5 * a | bures | both_triangles
_linalg | zero = x == 0 | zero = x != 0 | gan_train | linear_critic_pays
gaussians/_mixture | values - jnp.sum(q | values + jnp.sum(q | mixture | euclidean
gans/_losses | return -jnp.mean(h_t_of | return jnp.mean(h_t_of | losses | generator_loss
gans/_losses | [:, None] - jnp.ravel(d_q) | [:, None] + jnp.ravel(d_q) | pair | best_critic
gans/_pair | d[..., None] - d_p | d[..., None] + d_p | pair | pull_depends
gaussians/_nodes | 0.5 / dim | 0.5 * dim | nodes | weights_are_positive
gaussians/_nodes | (points**2) / 2) | (points**2) / 3) | nodes | trapezoid
training/_penalty | "r2": [data_q] | "r2": [data_p] | gan_train | r1_and_r2
training/_penalty | (squared) - 1) ** 2 | (squared) + 1) ** 2 | gan_train | linear_critic_pays
ratios/_least_squares | 0.5 * square - jnp | 0.5 * square + jnp | ratios | loss_that_chooses
ratios/_check | logsumexp(-u_p) | logsumexp(u_p) | ratio_sizes | true_ratio_passes
ratios/_drift | -of_q * sum_p | -of_q * sum_q | drift | formula
ratios/_kernels | -1 / (dim + 4) | -1 / (dim - 4) | ratios | kde_is_scipys
flows/_diagnostics | / rate.shape | * rate.shape | optimal_transport | circles_and
flows/_optimal_transport | (1 - fraction) | (1 + fraction) | optimal_transport | displacement
gaussians/_pareto | 10 * 0.5) / (size + 10) | 10 * 0.5) / (size - 10) | psis | zhang_and_stephens
flows/_density | rate, -divergence | rate, divergence | velocity | exact_trace
flows/_velocity | return -jax.vmap(slope | return jax.vmap(slope | velocity | interaction
flows/_langevin | math.sqrt(2.0) | math.sqrt(3.0) | flow | langevin_has
gaussians/_path_gradient | (log_q + jnp | (log_q - jnp | path_gradient | equal_to_p_the_gradient
training/_update | past, 1 - decay | past, 1 + decay | gan_train | average_has
training/_gan_step | xs.dtype) + value, value | xs.dtype) - value, value | proximal | frozen_log
training/_ratio_step | moved = xs + jnp | moved = xs - jnp | train | particle_step_is_euler
training/_flow_ratio_step | (1 + step) / (10 | (1 - step) / (10 | flow_ratio | average_forgets
"""


def one_edit(old, new):
    """Whether one character was changed or left out, or one `.T`."""
    if len(old) == len(new):
        return sum(a != b for a, b in zip(old, new, strict=True)) == 1
    size = len(old) - len(new)
    gaps = [i for i in range(len(new) + 1) if old[:i] + old[i + size :] == new]
    return bool(gaps) and (size == 1 or any(old[i : i + size] == ".T" for i in gaps))


def mutate(copy, module, old, new):
    assert one_edit(old, new), (old, new)
    path = copy / "divergence_flows" / f"{module}.py"
    text = path.read_text()
    # Docstrings tell the formula too: the one that counts stands once outside of them.
    assert text.count(old) == 1, f"{module}: {old!r} stands {text.count(old)} times"
    path.write_text(text.replace(old, new))


def survives(copy, tests, words):
    """Runs a few laws on a copy; whether they pass, and pytest's last line."""
    (file,) = copy.glob(f"tests/**/test_{tests}.py")
    command = [sys.executable, "-m", "pytest", "-xq", "-p", "no:xdist", "-p", "no:cacheprovider"]
    command += [str(file.relative_to(copy)), "-k", words]
    # From the copy's own folder, which stands before any installed package.
    run = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    last = (run.stdout.strip().splitlines() or ["nothing"])[-1]
    if run.returncode not in (0, 1):  # 1: a test failed; anything else is no verdict
        raise RuntimeError(f"{tests} -k {words!r} did not run:\n{run.stdout}{run.stderr}")
    return run.returncode == 0, re.sub(r" in .*", "", last).strip("= ")


def main(words):
    every = [line.split(" | ") for line in MUTATIONS.strip().splitlines()]
    chosen = [m for m in every if not words or any(word in m[0] + m[1] for word in words)]
    alive = []
    for module, old, new, tests, law in chosen:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "copy"
            leave = shutil.ignore_patterns(".*", "__pycache__", "out", "results", "build", "dist")
            shutil.copytree(ROOT, copy, ignore=leave)
            mutate(copy, module, old, new)
            lives, info = survives(copy, tests, law)
        verdict = "SURVIVES" if lives else "killed"
        shown = [text.split("\n")[0] for text in (old, new)]
        took = time.perf_counter() - start
        print(f"{verdict:8} {module:18} {shown[0]:34} -> {shown[1]}", flush=True)
        print(f"{'':9}{took:4.0f} s, test_{tests} -k {law!r}: {info}", flush=True)
        alive += [old] * lives
    print(f"{len(chosen)} mutations, {len(alive)} alive")
    return bool(alive)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
