"""Prints flags under which XLA compiles fast, those that this XLA knows: for XLA_FLAGS.

Most of the suite's time goes to code generation for programs that run for milliseconds. Tracing,
transforms and nearly all of XLA's own passes come before it and are as always. `XLA_FLAGS= nox -s
tests` runs the suite on code that is compiled as users' is.
"""

import jax

WANTED = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_cpu_use_fusion_emitters": False,
}


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
