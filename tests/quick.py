"""Prints flags under which XLA compiles fast, those that this XLA knows: for XLA_FLAGS.

Most of the suite's time goes to code generation for programs that run for milliseconds. Tracing,
transforms and nearly all of XLA's own passes come before it and are as always; `nox -s release`
runs the suite as users run the library.
"""

import jax

# Not level 0: there the gradient of `fit_gaussian`'s k-hat is NaN, which at 1, 2 and 3 it is not.
WANTED = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}


def known(name):
    """Whether this XLA has the flag; in XLA_FLAGS an unknown one ends the process."""
    try:
        jax.jit(abs, compiler_options={name: WANTED[name]})(1.0)
    except jax.errors.JaxRuntimeError:
        return False
    return True


if __name__ == "__main__":
    flags = [f"--{name}={str(value).lower()}" for name, value in WANTED.items() if known(name)]
    print(" ".join(flags))
