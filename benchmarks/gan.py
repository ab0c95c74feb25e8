"""GANs beside PyTorch: the same algorithm, networks, weights, batches and threads.

One JSON line a case; `value` is ours / baseline, and at or below `goal` is good. Run it alone on
the machine: `nox -s bench -- gan`. One function a case, chosen by the names after it, or all.
"""

import functools
import sys

import _gan_2d
import _gan_dcgan
import _gan_stream
import _line

CASES = {
    "dcgan": _gan_dcgan.dcgan,
    "blog": _gan_2d.blog,
    "seeds": _gan_2d.seeds,
    "stream": _gan_stream.stream,
}
CASES = {name: functools.partial(case, _line.tell_pairs) for name, case in CASES.items()}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        CASES[name]()
