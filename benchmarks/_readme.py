"""Makes the tables of `benchmarks/results/*.jsonl`: five rows for the README, all for the site.

    python benchmarks/_readme.py

writes the README's; `docs/_build.py` puts the others where a page says `<!-- bench:NAME -->`.
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- bench:summary, by benchmarks/_readme.py -->", "<!-- bench:end -->"
PEERS = {
    "blackjax.fullrank_vi": "blackjax",
    "numpyro.AutoMultivariateNormal": "numpyro",
    "gsmvi.GSM": "GSM",
}
# Names too long for the head of a column of small numbers.
SHORT = {
    "AutoMultivariateNormal": "numpyro, full",
    "AutoLowRankMultivariateNormal": "numpyro, low rank",
}
HEAD = ("case", "metric", "ours", "theirs", "value", "goal")
# Names of baselines that say more to those who wrote the goals than to a reader.
NAMES = {f"what issue {number} allows": "the limit" for number in (5, 16, 17)}
# The README's rows: what they say, and the line: file, case, metric, baseline. Some are lost.
GAN, PARTICLES = "2-D GAN, 64-64, batch 128, 32 seeds", "particle flow, critic 2-512-256-1"
DCGAN = "DCGAN step on 28x28, batch 128, width 64"
SUMMARY = {
    "Gaussian fit, 256 dimensions: KL(q\\|\\|p) left": (
        "gaussian",
        "gaussian 256",
        "final KL(q||p)",
        "blackjax.fullrank_vi",
    ),
    "Gaussian fit, logistic regression on 6,366 rows: time to 0.1 nat": (
        "gaussian",
        "logistic, fair",
        "time to ELBO gap = 0.1 nat",
        "gsmvi.GSM",
    ),
    "64-64 GAN in the plane, 32 seeds at once: a step of one seed": (
        "gan",
        GAN,
        "time of a step of a seed",
        "PyTorch, seeds stacked",
    ),
    "1,024 particles that follow a 2-512-256-1 critic: a step": (
        "gan",
        f"{PARTICLES}, 1024 particles",
        "time of a step",
        "PyTorch",
    ),
    "DCGAN on 28x28 images, batch 128: a step": ("gan", DCGAN, "time of a step", "PyTorch"),
}


def number(value):
    if value is None:
        return "-"
    return f"{value:.1e}" if value != 0 and abs(value) < 1e-3 else f"{value:.2g}"


def rows(head, body):
    escaped = [[str(each).replace("|", r"\|") for each in row] for row in (head, *body)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], "|---|" + "---|" * (len(head) - 1), *lines[1:]])


def by_target(lines):
    """metric -> value of each target and method."""
    found = {}
    for line in lines:
        if line["baseline_name"] in PEERS:
            # "final KL(q||p)" and "final ELBO gap", "time to ... = 0.1 nat" and the like.
            head, _, tail = line["metric"].partition(" ")
            key = "gap" if head == "final" else f"{head} near" if tail else head
            key += ", judged" if "verdict" in tail else ""
            row = found.setdefault(line["case"], {})
            row.setdefault("ours", {})[key] = line["ours"]
            row.setdefault(PEERS[line["baseline_name"]], {})[key] = line["baseline"]
    return found


def gaussian(lines, cell=lambda it: f"{number(it['gap'])} in {number(it['time'])} s"):
    """One row a target, one cell a method: gap and time by default."""
    names = ["ours", *PEERS.values()]
    found = by_target(lines).items()
    return rows(["target", *names], [[case, *(cell(row[n]) for n in names)] for case, row in found])


def gaussian_near(lines):
    """Time and gradients to within a tenth of a nat."""

    def cell(it):
        if it["time near"] is None:
            return "never"
        near, words = it["time near"], ""
        # Peers judge nothing, and older files have one time of ours.
        if it.get("time near, judged", near) != near:
            words = f", judged in {measured(it['time near, judged'], 's')}"
        return f"{measured(near, 's')}{words}, {it['gradients near']:,.0f}"

    return gaussian(lines, cell)


def gaussian_cost(lines):
    """Gradients of the whole run, and compilation."""
    cell = lambda it: f"{it['gradients']:,.0f}, {number(it['compile'])} s"
    return gaussian(lines, cell)


def gaussian_choices(lines):
    """Geometries and estimators beside the default ones."""
    body = [
        [line["case"], measured(line["ours"], "s"), measured(line["baseline"], "s")]
        for line in lines
        if line["metric"].startswith("time to rest")
    ]
    return rows(["target, geometry + estimator", "time to rest", "fisher_rao + stein"], body)


def measured(value, unit):
    if unit == "s" and value < 0.1:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g}" + (f" {unit}" if unit in ("s", "GB", "nats") else "")


def theirs(line):
    name = line["baseline_name"]
    return f"{NAMES.get(name, name)}: {measured(line['baseline'], line['unit'])}"


def pair(line):
    """One row a line: ours, theirs and the value, mostly their ratio, beside its goal."""
    met = line["goal"] is None or line["value"] <= line["goal"]
    goal = "-" if line["goal"] is None else f"{line['goal']:g}" + ("" if met else ", **missed**")
    ours = measured(line["ours"], line["unit"])
    return [line["case"], line["metric"], ours, theirs(line), f"{line['value']:.3g}", goal]


def pairs(lines):
    return rows(HEAD, map(pair, lines))


def flow(lines):
    """The OU flow's ten goals in one row a case; devices that share two cores apart."""
    ou, body = {}, []
    for line in lines:
        if line["case"].startswith("OU flow"):
            ou.setdefault(line["case"], []).append(line)
        elif "scaling" not in line["metric"]:
            body.append(pair(line))
    for case, each in ou.items():
        met = sum(line["value"] <= line["goal"] for line in each)
        worst = max(each, key=lambda line: line["value"] / line["goal"])
        words = f"goals met of {len(each)}; nearest to its goal is the {worst['metric']}"
        baseline = f"{worst['baseline_name']}: {number(worst['baseline'])}"
        missed = "" if met == len(each) else ", **missed**"
        goal = f"{number(worst['goal'])}{missed}"
        ours = f"{met}; {number(worst['ours'])}"
        body.append([case, words, ours, baseline, number(worst["value"]), goal])
    return rows(HEAD, body)


def flow_devices(lines):
    """Devices that share the cores of one."""
    return pairs(line for line in lines if "scaling" in line["metric"])


def machine(lines, unnamed):
    """The hardware of lines; files from before they said it have none."""
    return " and ".join(dict.fromkeys(line.get("hardware", unnamed) for line in lines))


def beside(cpu, gpu):
    """The cases that both machines measured: ours / theirs on each."""

    def cell(line):
        ours, other = (measured(line[which], line["unit"]) for which in ("ours", "baseline"))
        return f"{ours} / {other} = {line['ours'] / line['baseline']:.2g}"

    name = lambda line: (line["case"], line["metric"], line["baseline_name"])
    first, second = ({name(line): line for line in lines} for lines in (cpu, gpu))
    shared = [key for key in first if key in second and first[key]["unit"] == "s"]
    body = [[*key, cell(first[key]), cell(second[key])] for key in shared]
    sides = [
        machine([lines[key] for key in shared], unnamed)
        for lines, unnamed in ((first, "CPU, 2 cores"), (second, "NVIDIA H100"))
    ]
    return rows(("case", "metric", "theirs", *sides), body)


def tfp_gradients(lines):
    """Gradients in the mean of q: exact, ours, and both of TFP's."""
    kinds = ("exact", "ours", "reparameterised", "doubly")
    body = [[line["case"], *(f"{line[kind][0]:.2f}" for kind in kinds)] for line in lines]
    head = ["`tfp.vi.`", "exact", "`stl_loss`", "REPARAMETERIZATION", "DOUBLY_REPARAMETERIZED"]
    return rows(head, body)


def budget(lines):
    """Gaps at an equal number of gradients, one cell a method."""
    found = {}
    for line in lines:
        row = found.setdefault(line["case"], {"ours": line["ours"]})
        name = line["baseline_name"].split(".")[1]
        row[SHORT.get(name, name)] = line["baseline"]
    names = ["ours", *(name for name in next(iter(found.values())) if name != "ours")]
    body = [[case, *(number(row[name]) for name in names)] for case, row in found.items()]
    return rows(["target", *names], body)


def posteriors(lines):
    """Each law of ours, and after it the peers that had as much to spend; errors beside Stan."""

    def row(case, law, it):
        pair = lambda *names: " / ".join(number(it[name]) for name in names)
        return [
            *(case, law, "-" if it["ELBO"] is None else f"{it['ELBO']:,.1f}"),
            pair("error of means, rms", "largest error of a mean"),
            pair("error of deviations, rms", "largest error of a deviation"),
            *(number(it["k-hat"]), f"{it['gradients']:,}", measured(it["time"], "s")),
        ]

    body, before = [], None
    for line in lines:
        case, _, law = line["case"].rpartition(": ")
        if "of_baseline" in line:
            body.append(row("", line["baseline_name"].split(".")[1], line["of_baseline"]))
        else:
            # A gap of more than a nat is no rest; older lines have the flag of a looser rule.
            rests = line["of_ours"]["rested"] and line["of_ours"]["gap"] <= 1
            rested = "" if rests else ", not at rest"
            body.append(row("" if case == before else case, law + rested, line["of_ours"]))
        before = case
    head = ["posterior", "law", "ELBO", "means", "deviations", "k-hat", "gradients", "time"]
    return rows(head, body)


def information(lines):
    """Each task's estimate beside its truth, and how many are solved."""
    *tasks, last = lines
    body = [
        [
            line["case"],
            f"{line['baseline']:.3f}",
            f"{line['ours']:.3f}{'' if line['value'] <= line['goal'] else ', **missed**'}",
            f"{line['believed']} of {len(line['values'])}",
        ]
        for line in tasks
    ]
    solved = f"**{len(tasks) - last['ours']} of {len(tasks)} solved**"
    return rows(["task", "truth [nats]", "ours", "believed"], [*body, [solved, "", "", ""]])


def simulation(lines):
    """C2ST of each task beside what was published, and what held-out simulations say."""
    found, heads = {}, []
    for line in lines:
        task, kind = line["case"].split(", ", 1)
        if kind == "exact":
            found[f"{task}, exact draws"] = {kind: f"{line['ours']:.3f}"}
            continue
        missed = "" if line["value"] <= line["goal"] else ", **missed**"
        nats, error = line["information"][line["critic"]]
        cells = {
            f"{kind}: C2ST": f"{line['ours']:.3f}{missed}",
            f"{kind}: NRE": f"{line['baseline']:.3f}",
            f"{kind}: information": f"{nats:.2f} ± {error:.2f}",
            f"{kind}: critic": line["critic"],
        }
        found.setdefault(task, {}).update(cells)
        heads += [name for name in cells if name not in heads]
    for row in found.values():
        row.setdefault(heads[0], row.get("exact", "-"))
    return rows(
        ["task", *heads], [[task, *(row.get(n, "") for n in heads)] for task, row in found.items()]
    )


def structures(lines):
    """Cost and error of each structure of the covariance, one row a dimension."""
    found = {}
    for line in lines:
        dim, structure = line["case"].split(" dimensions, ")
        if "first" in line:
            cost = (
                f"{number(line['again'])} ({number(line['first'])}) s, {line['gigabytes']:.1f} GB"
            )
            rest = "" if line["rested"] else ", **not at rest**"
            found.setdefault(dim, {})[structure] = f"{number(line['ours'])} in {cost}{rest}"
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    body = [[dim, *(row.get(name, "-") for name in names)] for dim, row in found.items()]
    return rows(["dimensions", *names], body)


def mixtures(lines):
    """Both bounds of each mixture beside those of one Gaussian, and its cost."""
    found = {}
    for line in lines:
        row = found.setdefault(line["case"], [line["case"], f"{line['used']} of {line['most']}"])
        missed = line["goal"] is not None and line["value"] > line["goal"]
        cell = f"{number(line['ours'])} ± {number(line['error'])}"
        row += [cell + (", **missed**" if missed else ""), number(line["baseline"])]
        if line["metric"] == "EUBO":
            rest = "" if line["rested"] else ", **not at rest**"
            row += [number(line["k_hat"]), f"{line['again']:.2g} ({line['first']:.2g}) s{rest}"]
    head = [
        "target",
        "components",
        "-ELBO",
        "one Gaussian",
        "EUBO",
        "one Gaussian",
        "k-hat",
        "time",
    ]
    return rows(head, found.values())


def ratios_high_dimension(lines):
    """Mean squared errors of every way, one row a dimension, beside what was published."""
    found, truths, beside = {}, {}, {}
    for line in lines:
        dim, way = line["case"].split(" dimensions: ")
        mean = sum(line["values"]) / len(line["values"])
        cell = f"{measured(line['ours'], '')} ({mean:.1f})"
        found.setdefault(dim, {})[way] = cell
        truths[dim] = f"{line['truth']:.1f}"
        published = (f"{name} {value:g}" for name, value in line["published"].items())
        beside[dim] = ", ".join(published) or "-"
    ways = list(dict.fromkeys(way for row in found.values() for way in row))
    head = ["dimensions", "truth [nats]", *ways, "published"]
    body = [
        [dim, truths[dim], *(row.get(way, "-") for way in ways), beside[dim]]
        for dim, row in found.items()
    ]
    return rows(head, body)


def summary(results):
    """The README's rows: ours, theirs, their ratio, and which are lost."""
    lines = {
        (file, line["case"], line["metric"], line["baseline_name"]): line
        for file in {which[0] for which in SUMMARY.values()}
        for line in results[file]
    }
    body = []
    for words, which in SUMMARY.items():
        line = lines[which]
        ratio = line["ours"] / line["baseline"]
        lost = ", **lost**" if ratio > 1 else ""
        row = [words, measured(line["ours"], line["unit"]), theirs(line), f"{ratio:.2g}{lost}"]
        body.append("| " + " | ".join(row) + " |")
    return "\n".join(["| | ours | theirs | ours / theirs |", "|---|---|---|---|", *body])


TABLES = {
    "mixtures": ("mixtures", mixtures),
    "gaussian": ("gaussian", gaussian),
    "gaussian_near": ("gaussian", gaussian_near),
    "gaussian_cost": ("gaussian", gaussian_cost),
    "gaussian_choices": ("gaussian", gaussian_choices),
    "gaussian_budget": ("gaussian_budget", budget),
    "gaussian_h100": ("gaussian_h100", gaussian),
    "gaussian_near_h100": ("gaussian_h100", gaussian_near),
    "posteriors": ("posteriors", posteriors),
    "gan": ("gan", pairs),
    "flow": ("flow", flow),
    "flow_devices": ("flow", flow_devices),
    "flow_h100": ("flow_h100", pairs),
    "gpu": ("gpu", pairs),
    "information": ("information", information),
    "simulation": ("simulation", simulation),
    "ratios_high_dimension": ("ratios_high_dimension", ratios_high_dimension),
    "start": ("start", pairs),
    "structures": ("structures", structures),
    "tfp_gradients": ("tfp_gradients", tfp_gradients),
}
# Files of a CPU, and of a GPU, a later one before an earlier; and metrics that stand elsewhere.
SIDES = ("gan", "flow", "gaussian"), ("flow_h100", "gaussian_h100", "gpu")
LEFT = ("compile", "time to KL(q||p) = 0.1 nat", "time to ELBO gap = 0.1 nat")


def tables():
    """Every table that a page may ask for, by name."""
    files = {path.stem: path for path in (HERE / "results").glob("*.jsonl")}
    results = {
        name: [json.loads(line) for line in path.read_text().splitlines()]
        for name, path in files.items()
    }
    made = {
        name: make(results[file]) if file in results else f"(`nox -s bench -- {file}` makes these.)"
        for name, (file, make) in TABLES.items()
    }
    kept = lambda it: it["metric"] not in LEFT and "longer" not in it["baseline_name"]
    sides = [
        [line for file in files for line in results.get(file, []) if kept(line)] for files in SIDES
    ]
    return made | {"summary": summary(results), "beside": beside(*sides)}


def filled(text):
    """The README's text with its table as the results have it."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()['summary']}\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
