"""Fit what `predict.py` knows of an answer's error: ``python tools/fit_trust.py``.

Needs UTKFace's pictures in `data/UTKFace`. Validation pictures are blurred or shrunk
by chance; the held-out half fits, the other half checks. Written into `trust.json`:

- ``frame``: where eyes, nose and mouth lie in training pictures;
- of each shipped network: how detail is read off a picture, age intervals by detail,
  below which detail and pixels errors have grown, whether odd framing makes errors.
"""

import json
import pathlib
import sys

import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageFilter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from facekit import colour, labels, measure, places, predictions
from inference import faces, trust
from inference.framing import face_scores, prepare
from inference.predictor import Predictor, find_model

FITTED, CHECKED = 1000, 800  # pictures of networks larger than 48×48
REFRAMED = 200  # pictures, in each of the framings
TIMES = 4  # that each fitted picture is degraded
BANDS = 6  # of detail
GROWN = 1.5  # times the error of untouched pictures: a warning is due
REFUSED = 2  # times that error: refused
SIZES = 64, 48, 32, 24, 16, 12  # pixels of checked pictures
BLURS = 2, 4, 6, 8  # standard deviations, in pixels of 200
FRAMINGS = {  # zoom, shift (share of the side), turn (degrees)
    "as it is": (1, 0, 0),
    "face smaller": (0.8, 0, 0),
    "face larger": (1.25, 0, 0),
    "shifted down": (1, 0.12, 0),
    "shifted up": (1, -0.12, 0),
    "turned": (1, 0, 20),
    "much smaller": (0.6, 0, 0),
    "much larger": (1.6, 0, 0),
    "far down": (1, 0.3, 0),
    "far up": (1, -0.3, 0),
    "turned far": (1, 0, 45),
    "upside down": (1, 0, 180),
}


def shrink(image, size):
    """A picture of fewer pixels."""
    return image.resize((size, size), PIL.Image.Resampling.LANCZOS)


def blur(image, radius):
    """A picture out of focus."""
    return image.filter(PIL.ImageFilter.GaussianBlur(radius * image.width / 200))


def blurred_size(radius):
    """Pixels across that show as much as a picture of 200 with that blur."""
    return 200 / np.hypot(2 * radius * np.sqrt(2 * np.log(2)), 200 / 64)


def reframe(image, zoom, shift, turn):
    """A picture framed otherwise; what lies beyond the edge repeats it."""
    centre = np.array([0.5, 0.5])
    square = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) - centre
    angle = np.exp(1j * np.radians(turn)) / zoom
    moved = (square @ [1, 1j]) * angle
    points = np.c_[moved.real, moved.imag - shift] + centre
    return faces.cut_out(image, points * image.width, square + centre)


def learn_frame(data, count=500):
    """Where the finder sees its points in training pictures, as shares of the side."""
    find, seen = faces.Finder().find, []
    for image in pictures(data, data.rows("train").sample(count, random_state=1)):
        found = find(image)
        if len(found) == 1:
            seen.append(found[0] / image.width)
    print(f"{len(seen):,} of {count:,} training pictures: one face found")
    return np.median(seen, axis=0).round(4).tolist()


def pictures(data, rows):
    """The pictures of some rows, RGB."""
    for name in rows["img_name"]:
        yield PIL.Image.open(data.folder / name).convert("RGB")


def answer(predictor, rows, images):
    """Predictions, with the grey pictures that the network saw."""
    shape = predictor.size, predictor.channels
    batch = np.stack([prepare(image, *shape) for image in images])
    x = batch.astype("float32") / 255
    views = [predictor.model.predict(v, 256, verbose=0) for v in (x, x[:, :, ::-1])]
    if not isinstance(views[0], dict):
        views = [{predictor.model.output_names[0]: view} for view in views]
    grey = np.stack([prepare(image, predictor.size, 1) for image in images])[..., 0]
    return predictions.make_table(rows.reset_index(drop=True), views), grey


def errors(table):
    """Mean errors by task: years, or the share of wrong labels."""
    point = measure.point_values(table)
    told = {"age": point.get("age_mae")}
    for task in ("gender", "ethnicity"):
        if f"{task}_accuracy" in point:
            told[task] = 1 - point[f"{task}_accuracy"]
    return {task: value for task, value in told.items() if value is not None}


def growth(part, whole):
    """How much larger errors are, in the task where they grew most."""
    mine, others = errors(part), errors(whole)
    return max(mine[task] / others[task] for task in mine)


def fit(name, data):
    """One network's entry."""
    predictor = Predictor(find_model(name))
    face_model = predictor.face_model
    random = np.random.default_rng(1)
    val = data.rows("val")
    half = labels.validation_half(val["main_name"])
    fitted, checked = val[half == "held out"], val[half == "select"]
    if predictor.size > labels.SIZE:  # larger pictures take longer
        fitted = fitted.sample(FITTED, random_state=1)
        checked = checked.sample(CHECKED, random_state=1)

    rows = pd.concat([fitted] * (TIMES + 1), ignore_index=True)
    sharp = list(pictures(data, fitted))
    sizes = np.full(len(rows), min(predictor.size, 64.0))
    images = list(sharp)
    for number in range(len(fitted), len(rows)):
        image = sharp[number % len(fitted)]
        if random.random() < 0.5:
            size = round(2 ** random.uniform(np.log2(10), np.log2(64)))
            images.append(shrink(image, size))
        else:
            radius = random.uniform(0.5, 9)
            size = blurred_size(radius)
            images.append(blur(image, radius))
        sizes[number] = min(size, predictor.size)
    table, grey = answer(predictor, rows, images)
    inputs = np.c_[trust.spectrum(grey), np.ones(len(grey))]
    weights = np.linalg.lstsq(inputs, np.log2(sizes), rcond=None)[0].round(5).tolist()
    details = trust.detail(grey, weights)
    starts = np.quantile(details, np.arange(BANDS) / BANDS).round(3).tolist()
    band = trust.band_of(details, starts)
    whole = table.iloc[: len(fitted)]
    grown = [growth(table[band == number], whole) for number in range(BANDS)]
    entry = {"size": predictor.size, "fitted": len(fitted)}
    entry |= {"detail": weights, "from": starts}
    entry["least_detail"] = worse_below(grown, starts)
    if "age" in predictor.tasks:
        parts = [table[band == number] for number in range(BANDS)]
        entry["age_intervals"] = [
            measure.fit_age_intervals(part, True) for part in parts
        ]

    levels = {"untouched": list(pictures(data, checked))}
    for size in SIZES:
        levels[f"{size} pixels"] = [shrink(im, size) for im in levels["untouched"]]
    for radius in BLURS:
        levels[f"blur {radius}"] = [blur(im, radius) for im in levels["untouched"]]
    seen, least = {}, max(SIZES)
    for level, images in levels.items():
        table, grey = answer(predictor, checked, images)
        details = trust.detail(grey, weights)
        told = errors(table)
        if "age_intervals" in entry:
            ages = table["age_predicted"].to_numpy()
            low, high = trust.intervals(ages, details, entry)
            told["coverage"] = table["age"].between(low, high).mean()
            told["width"] = (high - low).mean()
        if entry["least_detail"] is not None:
            told["warned"] = (details < entry["least_detail"]).mean()
        seen[level] = {key: round(float(value), 4) for key, value in told.items()}
    plain = seen["untouched"]
    for size in SIZES:  # down to the first at which errors have grown too much
        tasks = [task for task in labels.LABELS if task in plain]
        if max(seen[f"{size} pixels"][t] / plain[t] for t in tasks) > REFUSED:
            break
        least = size
    entry["least_pixels"] = least

    odd = []
    rows = fitted.sample(REFRAMED, random_state=1)
    for how in FRAMINGS.values():
        images = [reframe(image, *how) for image in pictures(data, rows)]
        table, _ = answer(predictor, rows, images)
        small = np.stack([prepare(image, labels.SIZE, 1) for image in images])
        odd.append(table.assign(score=face_scores(face_model, small)))
    whole, odd = odd[0], pd.concat(odd, ignore_index=True)
    starts = odd["score"].quantile(np.arange(12) / 12).round(3).tolist()
    band = trust.band_of(odd["score"].to_numpy(), starts)
    grown = [growth(odd[band == number], whole) for number in range(len(starts))]
    entry["least_score"] = least = worse_below(grown, starts)
    if least is not None:  # of well framed pictures 5 % are warned of at most
        entry["least_score"] = least = min(least, whole["score"].quantile(0.05))
        warned = odd["score"] < least
        entry["framing"] = {
            "warned": round(float(warned.mean()), 3),
            "aligned_warned": round(float((whole["score"] < least).mean()), 3),
            "grown": round(growth(odd[warned], odd[~warned]), 2),
        }
    return entry | {"check": seen}


def worse_below(grown, starts):
    """Where the bands end, from the lowest on, in all of which errors have grown."""
    fine = [number for number, value in enumerate(grown) if value < GROWN]
    return starts[fine[0]] if fine and fine[0] else None


def main():
    """Fit all shipped networks, or those that are named."""
    data, _ = colour.find_pictures("auto", labels.DATA)
    if data.name != "utkface":
        sys.exit("UTKFace's pictures are needed in data/UTKFace.")
    path = labels.MODELS / "utkface" / "trust.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "frame" not in told:
        told |= {"frame": learn_frame(data), "networks": {}}
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shipped = sorted((labels.MODELS / "utkface").glob("*/*.keras"))
    for name in sys.argv[1:] or [path.stem for path in shipped]:
        told["networks"][name] = fit(name, data)
        print(name, json.dumps(told["networks"][name]), flush=True)
        with places.whole(path) as draft:
            draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
