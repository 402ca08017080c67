"""Try dozens of changes of the main network on one GPU: the lab's breadth, in JAX.

The network, losses, optimizer, schedule and augmentation of `assignment_2.ipynb`, all
of it on the GPU: 30 epochs take 5 seconds on an H100. `tests/test_breadth.py` holds it
against the notebook's Keras. Needs JAX alone:

    python benchmarks/breadth_data.py pack data.npz     # in the project's environment
    python benchmarks/breadth.py data.npz 1 out         # the first list of trials

`breadth.json` holds the lists of section 10 of `experiments.md`. Each trial is `BASE`
(run 6 of the notebook) with some settings changed. Figures are appended to
`out/results.jsonl`; trials that are watched keep their history, and their best weights.
"""

import argparse
import functools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

SIDE, PAD = 48, 12  # pixels; scipy pads as many for a spline that repeats the edge
AGES = np.arange(117, dtype="float32")
HEADS = {"age": "age_distribution", "gender": "gender", "ethnicity": "ethnicity"}
SIZES = {"age_distribution": 117, "gender": 1, "ethnicity": 5}
FOLDS = 5
SHAPE = {  # what a network is compiled for
    "filters": (32, 64, 128, 256),
    "convolutions": (1, 2, 2, 2),
    "head_units": 128,
    "activation": "relu",
    "batch_size": 128,
    "from_distribution": False,  # soft labels mix age distributions, not ages
}
NUMBERS = {  # what can change without compiling anew
    "rotation": 6,
    "shift": 4,
    "zoom": 0.1,
    "contrast": 0.2,
    "dropout": 0.25,
    "learning_rate": 2e-3,
    "weight_decay": 0.1,
    "age_sigma": 2.5,
    "sigma_slope": 0,  # sigma grows by this much a year
    "age_weight": 0.1,
    "distribution_weight": 0.5,
    "gender_weight": 2,
    "ethnicity_weight": 1.5,
    "soft_labels": 0,
    "smoothing": 0,  # of gender's and ethnicity's labels (Szegedy et al. 2016)
    "erasing": 0,  # share of pictures with a grey rectangle (Zhong et al. 2020)
    "block_dropout": 0,  # after each pooling
    "mixup": 0,  # alpha of the Beta distribution (Zhang et al. 2018)
}
PLAN = {
    "epochs": 30,
    "warmup_epochs": 2,
    "seed": 1,
    "fold": None,  # this fifth of the training images is left out, and answered
    "answers": None,  # which merged answers the soft labels are
    "watch": False,  # validation's losses in each epoch; the best weights are kept
}
BASE = SHAPE | NUMBERS | PLAN


def spline_coefficients(images):
    """Coefficients of cubic splines through pictures whose edges are repeated."""
    edges = (0, 0), (PAD, PAD), (PAD, PAD)
    found = np.pad(images.astype("float32"), edges, "edge")
    for axis in (1, 2):
        found = ndimage.spline_filter1d(found, 3, axis, "float32", "nearest")
    return found


def transform(coefficients, theta, ty, tx, zy, zx, flip):
    """A picture turned (radians), shifted (pixels), zoomed and mirrored, as Keras does.

    ``ImageDataGenerator.apply_transform`` with cubic splines and ``nearest``.
    """
    centre = SIDE / 2 - 0.5
    line = jnp.arange(SIDE) - centre
    y, x = jnp.meshgrid(line * zy + ty, line * zx + tx, indexing="ij")
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    places = cos * y + sin * x, cos * x - sin * y
    places = [jnp.clip(v + centre + PAD, 1, len(coefficients) - 2.001) for v in places]
    firsts = [jnp.floor(v).astype(int) for v in places]
    rows, columns = (
        ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t + t**2 - t**3) + 1, t**3)
        for t in (v - first for v, first in zip(places, firsts, strict=True))
    )
    flat, found = coefficients.reshape(-1), 0
    for i, j in np.ndindex(4, 4):
        place = (firsts[0] + i - 1) * len(coefficients) + firsts[1] + j - 1
        found += rows[i] * columns[j] * flat[place] / 36
    return jnp.where(flip, found[:, ::-1], found)


def augment(coefficients, key, h):
    """Pictures of a batch from 0 to 1, ``(n, 48, 48)``, each changed anew."""
    n, keys = len(coefficients), jax.random.split(key, 9)

    def uniform(i, middle, spread):
        low, high = middle - spread, middle + spread
        return jax.random.uniform(keys[i], (n,), minval=low, maxval=high)

    theta = jnp.deg2rad(uniform(0, 0, h["rotation"]))
    shifts = uniform(1, 0, h["shift"]), uniform(2, 0, h["shift"])
    zooms = uniform(3, 1, h["zoom"]), uniform(4, 1, h["zoom"])
    flip = jax.random.bernoulli(keys[5], 0.5, (n,))
    seen = jax.vmap(transform)(coefficients, theta, *shifts, *zooms, flip)
    factor = uniform(6, 1, h["contrast"])[:, None, None]
    mean = seen.mean((1, 2), keepdims=True)
    seen = jnp.clip(mean + factor * (seen - mean), 0, 255) / 255
    part = jax.random.uniform(keys[7], (n, 4))
    erased = jax.random.bernoulli(keys[8], h["erasing"], (n,))[:, None, None]
    for axis, (size, start) in enumerate(((0, 2), (1, 3))):
        size = 8 + 12 * part[:, size]
        start = part[:, start] * (SIDE - size)
        line = jnp.arange(SIDE)
        inside = (line >= start[:, None]) & (line < (start + size)[:, None])
        erased &= jnp.expand_dims(inside, 2 - axis)
    return jnp.where(erased, seen.mean((1, 2), keepdims=True), seen)


def initial(key, shape):
    """Kernels and zero biases: He's normal, Glorot's uniform for the outputs."""
    sizes, before, side = {}, 1, SIDE
    blocks = zip(shape["filters"], shape["convolutions"], strict=True)
    for block, (filters, count) in enumerate(blocks, 1):
        for number in range(1, count + 1):
            sizes[f"shared_conv{block}_{number}"] = 3, 3, before, filters
            before = filters
        side //= 2
    sizes["shared_dense"] = side * side * before, 256
    for task, head in HEADS.items():
        sizes[f"{task}_dense"] = 256, shape["head_units"]
        sizes[head] = shape["head_units"], SIZES[head]
    params = {}
    for number, (name, size) in enumerate(sizes.items()):
        own, fan = jax.random.fold_in(key, number), np.prod(size[:-1])
        if name in SIZES:
            limit = np.sqrt(6 / (fan + size[-1]))
            kernel = jax.random.uniform(own, size, minval=-limit, maxval=limit)
        else:
            spread = np.sqrt(2 / fan) / 0.87962566103423978  # of a cut normal
            kernel = spread * jax.random.truncated_normal(own, -2, 2, size)
        params[name] = {"kernel": kernel, "bias": jnp.zeros(size[-1])}
    return params


def forward(params, images, shape, key=None, h=None, dtype=jnp.bfloat16):
    """Logits of the heads, by output. With a key: as in training, with Dropout."""
    activation = getattr(jax.nn, shape["activation"])
    cast = jax.tree.map(lambda values: values.astype(dtype), params)

    def drop(x, rate, number):
        if key is None:
            return x
        own = jax.random.fold_in(key, number)
        keep = jax.random.bernoulli(own, 1 - rate, x.shape)
        return jnp.where(keep, x / (1 - rate).astype(dtype), 0)

    x = images[..., None].astype(dtype)
    for block, count in enumerate(shape["convolutions"], 1):
        for number in range(1, count + 1):
            layer = cast[f"shared_conv{block}_{number}"]
            how = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
            x = jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", **how)
            x = activation(x + layer["bias"])
        window = (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window)
        if shape["block_dropout"]:
            x = drop(x, h["block_dropout"], 10 + block) if h else x

    def dense(x, name):
        return activation(x @ cast[name]["kernel"] + cast[name]["bias"])

    x = drop(x.reshape(len(x), -1), h and h["dropout"], 0)
    x = drop(dense(x, "shared_dense"), h and h["dropout"], 1)
    found = {}
    for task, head in HEADS.items():
        y = dense(x, f"{task}_dense").astype(jnp.float32)
        found[head] = y @ params[head]["kernel"] + params[head]["bias"]
    return found


def answer(logits):
    """Age in years ``(n,)``, its distribution, P(female), five probabilities."""
    shares = jax.nn.softmax(logits["age_distribution"])
    return {
        "age": shares @ AGES,
        "age_distribution": shares,
        "gender": jax.nn.sigmoid(logits["gender"][:, 0]),
        "ethnicity": jax.nn.softmax(logits["ethnicity"]),
    }


def spread(ages, h):
    """Ages as Gaussians over the years 0 to 116."""
    sigma = (h["age_sigma"] + h["sigma_slope"] * ages)[:, None]
    weights = jnp.exp(-0.5 * ((AGES - ages[:, None]) / sigma) ** 2)
    return weights / weights.sum(1, keepdims=True)


def soften(labels, told, h, from_distribution=False):
    """Labels to learn from: smoothed, and mixed with answers where there are any."""
    left, share = 1 - h["smoothing"], h["soft_labels"]
    wanted = {
        "age": labels["age"],
        "gender": left * labels["gender"] + h["smoothing"] / 2,
        "ethnicity": left * jax.nn.one_hot(labels["ethnicity"], 5) + h["smoothing"] / 5,
    }
    if from_distribution:
        wanted["age_distribution"] = spread(wanted["age"], h)
    if told:
        wanted = {k: (1 - share) * v + share * told[k] for k, v in wanted.items()}
    return {"age_distribution": spread(wanted["age"], h)} | wanted


def losses(logits, wanted):
    """Mean losses, by output."""
    log = jax.nn.log_softmax(logits["age_distribution"])
    five, z = jax.nn.log_softmax(logits["ethnicity"]), logits["gender"][:, 0]
    return {
        "age": jnp.abs(jnp.exp(log) @ AGES - wanted["age"]).mean(),
        "age_distribution": -(wanted["age_distribution"] * log).sum(1).mean(),
        "gender": (jax.nn.softplus(z) - wanted["gender"] * z).mean(),
        "ethnicity": -(wanted["ethnicity"] * five).sum(1).mean(),
    }


def log_of(logits, wanted, h):
    """The weighted loss, and what Keras logs beside it."""
    found = losses(logits, wanted)
    weights = {key: h[f"{key.removeprefix('age_')}_weight"] for key in found}
    total = sum(weights[key] * value for key, value in found.items())
    female = (logits["gender"][:, 0] > 0) == (wanted["gender"] > 0.5)
    five = logits["ethnicity"].argmax(1) == wanted["ethnicity"].argmax(1)
    logged = {"loss": total} | {f"{key}_loss": value for key, value in found.items()}
    logged |= {"age_mae": found["age"], "gender_accuracy": female.mean()}
    return total, logged | {"ethnicity_accuracy": five.mean()}


def orthogonal(x):
    """Five Newton–Schulz steps towards the nearest orthogonal matrix, as in Keras."""
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    x = x / (jnp.linalg.norm(x.astype(jnp.float32)) + 1e-7).astype(x.dtype)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x.T if turned else x


def update(state, gradients, rate, decay, dtype=jnp.bfloat16):
    """A step of Muon for kernels and of Adam for the rest (``networks.Muon``)."""
    number = state["step"] + 1
    alpha = rate * jnp.sqrt(1 - 0.999**number) / (1 - 0.9**number)

    def one(path, value, momentum, velocity, gradient):
        name, kind = (part.key for part in path)
        if kind == "kernel":
            value = value - value * decay * rate
        flat = -1, value.shape[-1]
        small = min(np.prod(value.shape[:-1]), value.shape[-1]) < 32
        if kind == "bias" or name == "age_distribution" or small:
            momentum = momentum + (gradient - momentum) * 0.1
            velocity = velocity + (gradient**2 - velocity) * 0.001
            value = value - momentum * alpha / (jnp.sqrt(velocity) + 1e-7)
        else:
            momentum = 0.95 * momentum + gradient
            step = (gradient + 0.95 * momentum).reshape(flat).astype(dtype)
            step = orthogonal(step).astype(jnp.float32) * np.sqrt(max(step.shape)) * 0.2
            value = value - rate * step.reshape(value.shape)
        return value, momentum, velocity

    parts = [state[key] for key in ("params", "momenta", "velocities")]
    found = jax.tree_util.tree_map_with_path(one, *parts, gradients)
    parts = [
        jax.tree.map(
            lambda trio, i=i: trio[i], found, is_leaf=lambda x: isinstance(x, tuple)
        )
        for i in range(3)
    ]
    return dict(zip(("params", "momenta", "velocities"), parts, strict=True)) | {
        "step": number
    }


def start(key, shape):
    """Parameters and an optimizer that has done nothing."""
    params = initial(key, shape)
    zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(2)]
    state = {"params": params, "momenta": zeros[0], "velocities": zeros[1]}
    return state | {"step": jnp.float32(0)}


def rate_at(step, h):
    """Keras' ``CosineDecay`` with a warm-up."""
    rise = step / jnp.maximum(h["warmup_steps"], 1)
    part = (step - h["warmup_steps"]) / (h["steps"] - h["warmup_steps"])
    fall = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(part, 0, 1)))
    return h["learning_rate"] * jnp.where(step < h["warmup_steps"], rise, fall)


@functools.partial(jax.jit, static_argnames=("shape", "count"), donate_argnums=0)
def run_epoch(state, data, rows, told, h, key, shape, count):
    """One epoch of ``count`` steps over the pictures of ``rows``."""
    shape = dict(shape)
    order = jax.random.permutation(jax.random.fold_in(key, 1), rows)
    order = order[: count * shape["batch_size"]].reshape(count, -1)

    def step(state, given):
        number, chosen = given
        keys = jax.random.split(jax.random.fold_in(key, 1000 + number), 3)
        images = augment(data["coefficients"][chosen], keys[0], h)
        labels = {k: data[k][chosen] for k in HEADS}
        answers = {k: v[chosen] for k, v in told.items()}
        wanted = soften(labels, answers, h, shape["from_distribution"])
        if shape["mixup"]:
            share = jax.random.beta(keys[2], h["mixup"], h["mixup"])
            share = jnp.maximum(share, 1 - share)
            mixed = images, wanted
            mixed = jax.tree.map(lambda a: share * a + (1 - share) * a[::-1], mixed)
            images, wanted = mixed

        def loss(params):
            return log_of(forward(params, images, shape, keys[1], h), wanted, h)

        gradients, logged = jax.grad(loss, has_aux=True)(state["params"])
        rate = rate_at(state["step"], h)
        return update(state, gradients, rate, h["weight_decay"]), logged

    state, logged = jax.lax.scan(step, state, (jnp.arange(count), order))
    return state, jax.tree.map(jnp.mean, logged)


@functools.partial(jax.jit, static_argnames="shape")
def see(params, images, shape):
    """Logits of grey levels from 0 to 255, in float32."""
    parts = -(-len(images) // 256)
    pad = (0, parts * 256 - len(images)), (0, 0), (0, 0)
    x = jnp.pad(images, pad).reshape(parts, 256, SIDE, SIDE) / 255
    with jax.default_matmul_precision("float32"):
        found = jax.lax.map(
            lambda x: forward(params, x, dict(shape), dtype=jnp.float32), x
        )
    return {k: v.reshape(-1, v.shape[-1])[: len(images)] for k, v in found.items()}


@functools.partial(jax.jit, static_argnames="shape")
def predict(params, images, shape):
    """Answers, flip averaged."""
    views = [answer(see(params, x, shape)) for x in (images, images[:, :, ::-1])]
    return jax.tree.map(lambda a, b: (a + b) / 2, *views)


@functools.partial(jax.jit, static_argnames="shape")
def watch(params, images, labels, h, shape):
    """What Keras logs of validation: pictures as they are, plain labels."""
    plain = h | {"soft_labels": 0, "smoothing": 0}
    return log_of(see(params, images, shape), soften(labels, {}, plain), h)[1]


def score(found, labels, chosen):
    """Headline figures and cross-entropies of some pictures."""
    found, labels = (
        {k: np.asarray(v)[chosen] for k, v in x.items()} for x in (found, labels)
    )
    own = np.where(labels["gender"] == 1, found["gender"], 1 - found["gender"])
    named = found["ethnicity"][np.arange(len(own)), labels["ethnicity"]]
    figures = {
        "age_mae": np.abs(found["age"] - labels["age"]).mean(),
        "gender_accuracy": ((found["gender"] >= 0.5) == labels["gender"]).mean(),
        "ethnicity_accuracy": (
            found["ethnicity"].argmax(1) == labels["ethnicity"]
        ).mean(),
        "gender_loss": -np.log(np.clip(own, 1e-6, 1)).mean(),
        "ethnicity_loss": -np.log(np.clip(named, 1e-6, 1)).mean(),
    }
    return {key: round(float(value), 5) for key, value in figures.items()}


class Lab:
    """The data on the GPU, and what trials found."""

    def __init__(self, path, out):
        with np.load(path) as file:
            given = dict(file)
        self.out = out
        self.images = given["train_images"]
        self.folds, self.selection = given["train_fold"], given["val_select"]
        self.val_images = jnp.asarray(given["val_images"], jnp.float32)
        self.val, self.data = (
            {k: jnp.asarray(given[f"{part}_{k}"]) for k in HEADS}
            for part in ("val", "train")
        )
        found = spline_coefficients(self.images)
        self.data["coefficients"] = jnp.asarray(found, jnp.float32)
        self.answers, self.left_out = {}, {}
        self.kept, self.weights, self.histories = {}, {}, {}

    def run(self, name, changes):
        """Train one variant and append its figures to the log."""
        settings = BASE | changes
        if unknown := set(changes) - set(BASE):
            raise ValueError(f"{name}: no settings {sorted(unknown)}")
        shape = {k: settings[k] for k in SHAPE}
        shape |= {k: settings[k] > 0 for k in ("mixup", "block_dropout")}
        shape = tuple(
            (k, tuple(v) if isinstance(v, list) else v) for k, v in shape.items()
        )
        rows, fold = np.arange(len(self.folds)), settings["fold"]
        if fold is not None:  # as many pictures for each fold, to compile once
            fewest = min(np.sum(self.folds != other) for other in range(FOLDS))
            rows = rows[self.folds != fold][:fewest]
        count = len(rows) // settings["batch_size"]
        h = {k: jnp.float32(settings[k]) for k in NUMBERS}
        h["steps"] = jnp.float32(settings["epochs"] * count)
        h["warmup_steps"] = jnp.float32(settings["warmup_epochs"] * count)
        told = self.answers[settings["answers"]] if settings["answers"] else {}
        key, history, best = jax.random.key(settings["seed"]), [], None
        state, started = start(jax.random.fold_in(key, 0), dict(shape)), time.time()
        half = self.val_images[self.selection]
        labels = {k: v[self.selection] for k, v in self.val.items()}
        for number in range(settings["epochs"]):
            now = jax.random.fold_in(key, 100 + number)
            given = self.data, jnp.asarray(rows), told, h, now
            state, logged = run_epoch(state, *given, shape=shape, count=count)
            if settings["watch"]:
                seen = watch(state["params"], half, labels, h, shape)
                logged |= {f"val_{k}": v for k, v in seen.items()}
                if best is None or seen["loss"] < best[0]:
                    copied = jax.tree.map(jnp.copy, state["params"])
                    best = seen["loss"], number + 1, copied
            history.append({k: round(float(v), 5) for k, v in logged.items()})
        seconds = round(time.time() - started, 1)
        params = best[2] if best else state["params"]
        found = predict(params, self.val_images, shape)
        line = {"name": name, "changes": changes, "seconds": seconds}
        line |= {"parameters": sum(x.size for x in jax.tree.leaves(params))}
        line |= {"best_epoch": best[1]} if best else {}
        halves = {"selection": self.selection, "held out": ~self.selection}
        line |= {half: score(found, self.val, of) for half, of in halves.items()}
        with open(self.out / "results.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(name, seconds, line["selection"], flush=True)
        columns = [found["age"][:, None], found["gender"][:, None], found["ethnicity"]]
        self.kept[name] = np.concatenate(columns, 1, dtype="float32")
        if best:
            self.weights[name], self.histories[name] = params, history
        if fold is not None:
            left = np.flatnonzero(self.folds == fold)
            images = jnp.asarray(self.images[left], jnp.float32)
            self.left_out[name] = left, predict(params, images, shape)

    def merge(self, name, prefixes):
        """Mean answers of the networks that have not seen a training picture."""
        chosen = [v for k, v in self.left_out.items() if k.startswith(tuple(prefixes))]
        total = {
            k: np.zeros((len(self.folds), *v.shape[1:]))
            for k, v in chosen[0][1].items()
        }
        times = np.zeros(len(self.folds))
        for left, found in chosen:
            times[left] += 1
            for key, values in found.items():
                total[key][left] += values
        total = {k: (v.T / times).T for k, v in total.items()}
        self.answers[name] = {k: jnp.asarray(v, jnp.float32) for k, v in total.items()}
        print(name, score(total, self.data, slice(None)), flush=True)

    def save(self):
        """Keep answers on validation and on training pictures, histories, weights."""
        np.savez(self.out / "val.npz", **self.kept)
        (self.out / "histories.json").write_text(json.dumps(self.histories))
        for name, found in self.answers.items():
            np.savez(self.out / f"answers_{name}.npz", **found)
        for name, params in self.weights.items():
            flat = {f"{x}/{y}": v for x, two in params.items() for y, v in two.items()}
            np.savez(self.out / f"{name}.npz", **flat)


def main(data, number, out):
    """Run one list of trials after the other."""
    trials = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())
    out.mkdir(parents=True, exist_ok=True)
    lab = Lab(data, out)
    for trial in trials[number - 1]:
        name = trial.pop("name")
        if "merge" in trial:
            lab.merge(name, trial["merge"])
        else:
            lab.run(name, trial)
    lab.save()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=pathlib.Path, help="what breadth_data.py packed")
    parser.add_argument("number", type=int, help="of the list in breadth.json, 1 to 3")
    parser.add_argument("out", type=pathlib.Path, help="folder for what is found")
    arguments = parser.parse_args()
    main(arguments.data, arguments.number, arguments.out)
