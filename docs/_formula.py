"""Evaluates the LaTeX of the table *which loss minimises what*, so that the library can check it.

The grammar is that of the table: sums of products of powers, with the functions in FUNCTIONS, and
implicit multiplication. A function takes what stands in parentheses, or the next factor.
"""

import re

import jax
import jax.numpy as jnp

TOKEN = re.compile(r"\\operatorname\{(\w+)\}|\\(\w+)|(\d+(?:\.\d+)?)|(\S)")
FUNCTIONS = {
    "log": jnp.log,
    "sqrt": jnp.sqrt,
    "sp": jax.nn.softplus,
    "sigma": jax.nn.sigmoid,
    "arcsinh": jnp.arcsinh,
}
SKIPPED = re.compile(r"\\(left|right|bigl|bigr|Bigl|Bigr)(?![a-zA-Z])|\\[,;! ]")


class _Reader:
    """A recursive descent over the tokens of one formula."""

    def __init__(self, latex, values):
        found = TOKEN.findall(SKIPPED.sub(" ", latex))
        self.tokens = [next(each for each in groups if each) for groups in found]
        self.latex, self.values = latex, values

    def next(self, wanted=None):
        if not self.tokens or (wanted is not None and self.tokens[0] != wanted):
            raise ValueError(f"cannot read {self.latex}: {wanted} expected at {self.tokens}")
        return self.tokens.pop(0)

    def sees(self, *tokens):
        return bool(self.tokens) and self.tokens[0] in tokens

    def sum(self):
        total = -self.product() if self.sees("-") and self.next() else self.product()
        while self.sees("+", "-"):
            sign = 1 if self.next() == "+" else -1
            total = total + sign * self.product()
        return total

    def product(self):
        total = self.power()
        while self.tokens and not self.sees("+", "-", ")", "}", "]"):
            if self.sees("/"):
                self.next()
                total = total / self.power()
            else:
                total = total * self.power()
        return total

    def power(self):
        base = self.atom()
        return base ** self.atom() if self.sees("^") and self.next() else base

    def atom(self):
        token = self.next()
        if token in "([{":
            inside = self.sum()
            self.next({"(": ")", "[": "]", "{": "}"}[token])
            return inside
        if token in ("tfrac", "frac"):
            return self.atom() / self.atom()
        if token in FUNCTIONS:
            grouped = self.sees("{", "(")  # sigma(u)^2 is the square of sigma(u)
            return FUNCTIONS[token](self.atom() if grouped else self.power())
        if token == "e":
            return jnp.e
        return self.values[token] if token in self.values else float(token)


def evaluate(latex, **values):
    """The value of a formula, with a value for each letter in it."""
    reader = _Reader(latex, values)
    found = reader.sum()
    if reader.tokens:
        raise ValueError(f"cannot read {latex} from {reader.tokens} on")
    return found
