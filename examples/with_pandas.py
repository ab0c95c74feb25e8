"""How likely is a tumour malignant? A log ratio of two classes, from a data frame of measurements.

    python examples/with_pandas.py [--fast]

Three measurements of 569 tumours (Wisconsin, 1995) in a `pandas.DataFrame`; polars' do as well. p
are the malignant, q the benign ones, of the first two thirds of the rows. With r = p/q and the odds
of the classes a new tumour is malignant with probability sigmoid(log r + log odds). Prints the
accuracy on the last third, beside that of a logistic regression of scikit-learn on the same rows
and their products, and how near E_q[r] and E_p[1/r] of the last third are to 1. Writes
examples/out/with_pandas.png: log r of the last third, of both classes.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
COLUMNS = ["mean texture", "mean smoothness", "mean symmetry"]


def tumours():
    """Measurements in units of their spread, and whether a tumour is malignant; shuffled."""
    data = load_breast_cancer(as_frame=True)
    frame = data.data[COLUMNS].sample(frac=1.0, random_state=0)
    return (frame - frame.mean()) / frame.std(), data.target[frame.index] == 0


def accuracy(found, wanted):
    return float(np.mean(np.asarray(found) == np.asarray(wanted)))


def draw(u, truth):
    """The learned log ratio of held-out tumours."""
    plt.style.use("divergence_flows.plot.style")
    figure, axis = plt.subplots(figsize=(5.6, 3.4))
    for name, whose, label in (("q", ~truth, "q: benign"), ("p", truth, "p: malignant")):
        look = {"color": df.plot.COLORS[name], "label": label, "histtype": "stepfilled"}
        df.plot.samples(u[whose], ax=axis, bins=np.linspace(-5, 5, 21), alpha=0.7, **look)
    axis.set(xlabel="log p/q of a held-out tumour [nats]", ylabel="density [per nat]")
    axis.legend()
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / "with_pandas.png", dpi=110)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer features, for a check")
    features = 16 if parser.parse_args(argv).fast else None
    frame, malignant = tumours()
    first = np.arange(len(frame)) < 2 * len(frame) // 3
    benign, ill = (frame[first & (malignant == each)] for each in (False, True))
    log_r = df.rff_log_ratio(benign, ill, features=features, key=jr.key(0))
    rest, truth = frame[~first], malignant[~first]
    u = jax.vmap(log_r, in_axes=(None, 0, None))(0.0, jnp.asarray(rest.to_numpy()), None)
    ours = accuracy(u + np.log(len(ill) / len(benign)) > 0, truth)
    regression = make_pipeline(PolynomialFeatures(2), LogisticRegression(max_iter=5000))
    theirs = accuracy(regression.fit(frame[first], malignant[first]).predict(rest), truth)
    check = df.ratio_check(log_r, rest[~truth], rest[truth])
    print(f"right of {len(rest)}: {ours:.1%}, logistic regression {theirs:.1%}")
    print(f"E_q[r] = {check.mean_r:.2f}, E_p[1/r] = {check.mean_inverse_r:.2f} of held-out rows")
    draw(np.asarray(u), np.asarray(truth))
    return ours, theirs


if __name__ == "__main__":
    main()
