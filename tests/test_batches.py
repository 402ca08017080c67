"""What the network gets: scale, labels, order, augmentation."""

import numpy as np
import pytest
import tiny
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from facekit import batches, labels


def augment(order=3):
    """Give a generator as the main notebook's."""
    return ImageDataGenerator(
        rescale=1 / 255,
        rotation_range=6,
        width_shift_range=4 / 48,
        height_shift_range=4 / 48,
        zoom_range=0.1,
        horizontal_flip=True,
        preprocessing_function=batches.RandomContrast(0.2),
        fill_mode="nearest",
        interpolation_order=order,
    )


def collect(delivered):
    """Join all batches; labels by name."""
    pairs = [delivered[number] for number in range(len(delivered))]
    images, answers = zip(*pairs, strict=True)
    names = answers[0]
    joined = {name: np.concatenate([part[name] for part in answers]) for name in names}
    return np.concatenate(images), joined


@pytest.mark.parametrize("split", labels.SPLITS)
def test_pictures_are_rescaled_and_labels_right_in_the_tables_order(data, split):
    delivered = batches.LabelledBatches(tiny.flow_of(data, split, batch_size=32))
    rows = data.rows(split)
    images, answers = collect(delivered)
    assert delivered.flow.filenames == rows["img_name"].tolist()
    expected = data.images[rows.index] / 255
    np.testing.assert_allclose(images[..., 0], expected, atol=1e-6)
    for name in labels.LABELS:
        assert answers[name].tolist() == rows[name].tolist()
    delivered.on_epoch_end()
    np.testing.assert_array_equal(collect(delivered)[0], images)


def test_shuffled_anew_each_epoch_with_the_right_labels(data):
    flow = tiny.flow_of(data, "train", shuffle=True, batch_size=64)
    delivered = batches.LabelledBatches(flow)
    rows = data.rows("train")
    digests = labels.digest_pictures(data.images[rows.index])
    table, orders = rows.set_index(digests), []
    for _ in range(2):
        images, answers = collect(delivered)
        pixels = np.rint(255 * images[..., 0]).astype("uint8")
        orders.append(list(labels.digest_pictures(pixels)))
        for name in labels.LABELS:
            assert answers[name].tolist() == table.loc[orders[-1], name].tolist()
        delivered.on_epoch_end()
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(digests)
    assert list(digests) != orders[0] != orders[1]


def test_augmentation_changes_pictures_and_no_label(data):
    flow = tiny.flow_of(data, "train", generator=augment(), batch_size=64)
    images, answers = batches.LabelledBatches(flow)[0]
    rows = data.rows("train")[:64]
    assert images.min() >= 0 and images.max() <= 1
    changed = np.abs(images[..., 0] - data.images[rows.index] / 255).max(axis=(1, 2))
    assert (changed > 0.05).mean() > 0.95
    assert answers["age"].tolist() == rows["age"].tolist()


def test_cubic_splines_keep_what_linear_interpolation_blurs(data):
    none, linear, cubic = (
        tiny.sharpness(tiny.flow_of(data, "train", generator=generator)[0][0])
        for generator in (None, augment(order=1), augment(order=3))
    )
    assert linear < 0.9 * cubic and cubic < 1.1 * none


@pytest.mark.parametrize(
    ("tasks", "sigma", "names"),
    [
        (labels.LABELS, None, ["age", "gender", "ethnicity"]),
        (labels.LABELS, 2.5, ["age", "gender", "ethnicity", "age_distribution"]),
        (["gender"], 2.5, ["gender"]),
        (["age"], 2.5, ["age", "age_distribution"]),
    ],
)
def test_labels_are_those_that_the_network_answers(data, tasks, sigma, names):
    delivered = batches.LabelledBatches(tiny.flow_of(data, "val"), sigma, tasks)
    _, answers = delivered[0]
    assert list(answers) == names
    if "age_distribution" in names:
        assert (answers["age_distribution"].argmax(axis=1) == answers["age"]).all()


def test_mirrored_batches_are_the_same_pictures_turned_round(data):
    flow = tiny.flow_of(data, "val", batch_size=20)
    images, answers = collect(batches.LabelledBatches(flow))
    turned, same = collect(batches.LabelledBatches(flow, mirrored=True))
    np.testing.assert_array_equal(turned[:, :, ::-1], images)
    assert (turned != images).any(axis=(1, 2, 3)).all()
    assert all((same[task] == answers[task]).all() for task in labels.LABELS)


@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_age_distribution_is_centred_on_the_age(sigma):
    spread = batches.age_distribution(labels.AGES, sigma)
    assert spread.shape == (117, 117) and spread.dtype == np.float32
    np.testing.assert_allclose(spread.sum(axis=1), 1, rtol=1e-5)
    assert (spread.argmax(axis=1) == labels.AGES).all()
    inside = slice(15, 102)  # far from both ends nothing is cut off
    np.testing.assert_allclose(
        (spread @ labels.AGES)[inside], labels.AGES[inside], atol=1e-3
    )
    variance = (spread[50] * (labels.AGES - 50) ** 2).sum()
    assert variance == pytest.approx(sigma**2, rel=1e-3)


def test_random_contrast_keeps_the_mean_and_stays_in_range():
    change = batches.RandomContrast(0.2)
    generator = np.random.default_rng(0)
    middle, factors = generator.uniform(100, 150, (48, 48, 1)), []
    for _ in range(200):
        changed = change(middle)
        assert changed.mean() == pytest.approx(middle.mean())
        factors.append(changed.std() / middle.std())
    assert 0.8 <= min(factors) < 0.85 and 1.15 < max(factors) <= 1.2
    extreme = 255.0 * generator.integers(0, 2, (48, 48, 1))
    drawn = np.stack([change(extreme) for _ in range(20)])
    assert drawn.min() >= 0 and drawn.max() <= 255


def test_a_share_of_the_rows_is_drawn_by_the_seed(data):
    rows = data.rows("train")
    assert batches.subset(rows, 1.0, seed=1) is rows
    first, again, other = (batches.subset(rows, 0.25, seed) for seed in (1, 1, 2))
    assert len(first) == 48 and first.index.is_unique
    assert first.index.isin(rows.index).all() and first.equals(again)
    assert set(first.index) != set(other.index)
