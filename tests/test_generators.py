"""What the generators deliver: scale, labels, order, augmentation."""

import numpy as np
import pytest

UNAUGMENTED = {"augmentation": "none"}


@pytest.fixture
def batches(notebook, parts, data_folder, tiny):
    """Make the batches of a set as the training and the evaluation do."""

    def make(split, training, **changes):
        folder = data_folder / "images"
        return notebook.make_batches(parts[split], folder, tiny | changes, training)

    return make


def collect(batches):
    """Join all batches; labels by name."""
    pairs = [batches[number] for number in range(len(batches))]
    images, labels = zip(*pairs, strict=True)
    joined = {
        name: np.concatenate([batch[name] for batch in labels]) for name in labels[0]
    }
    return np.concatenate(images), joined


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_pictures_are_rescaled_and_labels_right_in_the_tables_order(
    notebook, loaded, parts, batches, split
):
    delivered = batches(split, training=False)
    images, labels = collect(delivered)
    expected = loaded[1][parts[split].index]
    assert list(delivered.flow.filenames) == list(parts[split]["img_name"])
    assert images.shape == (len(parts[split]), 48, 48, 1)
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_allclose(images[..., 0], expected / 255, atol=1e-6)
    for name in notebook.LABELS:
        assert labels[name].tolist() == parts[split][name].tolist()


def test_training_is_shuffled_anew_each_epoch_with_the_right_labels(
    notebook, loaded, parts, batches
):
    delivered = batches("train", training=True, **UNAUGMENTED)
    index = loaded[0].index[loaded[0]["split"] == "train"]
    digests = notebook.digest_pictures(loaded[1][index])
    table = parts["train"].set_index(digests)
    orders = []
    for _ in range(2):
        images, labels = collect(delivered)
        pixels = np.rint(255 * images[..., 0]).astype("uint8")
        orders.append(list(notebook.digest_pictures(pixels)))
        for name in notebook.LABELS:
            assert labels[name].tolist() == table.loc[orders[-1], name].tolist()
        delivered.on_epoch_end()
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(digests)
    assert list(digests) != orders[0] != orders[1]


def test_evaluation_keeps_its_order_over_epochs(batches):
    delivered = batches("test", training=False)
    first, _ = collect(delivered)
    delivered.on_epoch_end()
    np.testing.assert_array_equal(first, collect(delivered)[0])


@pytest.mark.parametrize("augmentation", ["mild", "mild, linear"])
def test_training_alone_is_augmented(loaded, parts, batches, augmentation):
    def differs(training):
        delivered = batches("train", training, augmentation=augmentation)
        images, _ = delivered[0]
        order = delivered.flow.index_array[: len(images)]
        pictures = loaded[1][parts["train"].index[order]] / 255
        return np.abs(images[..., 0] - pictures).max(axis=(1, 2)) > 0.05

    assert differs(training=True).mean() > 0.95
    assert not differs(training=False).any()


def test_augmented_pictures_stay_in_range_and_keep_their_labels(parts, batches):
    delivered = batches("train", training=True, augmentation="mild")
    images, labels = delivered[0]
    rows = parts["train"].iloc[delivered.flow.index_array[: len(images)]]
    assert images.min() >= 0 and images.max() <= 1
    assert labels["age"].tolist() == rows["age"].tolist()


def test_the_fourth_label_comes_with_the_distributional_head_alone(batches):
    _, labels = batches("val", training=False)[0]
    assert list(labels) == ["age", "gender", "ethnicity", "age_distribution"]
    assert labels["age_distribution"].shape == (len(labels["age"]), 117)
    _, labels = batches("val", training=False, age_head="scalar")[0]
    assert list(labels) == ["age", "gender", "ethnicity"]


@pytest.mark.parametrize("age_head", ["distribution", "scalar"])
@pytest.mark.parametrize(
    "tasks", [["age"], ["gender"], ["ethnicity"], ["age", "gender", "ethnicity"]]
)
def test_labels_are_those_that_the_network_answers(
    notebook, parts, batches, tiny, tasks, age_head
):
    changes = {"tasks": tasks, "age_head": age_head}
    network = notebook.build_model(tiny | changes)
    for training in (True, False):
        _, labels = batches("val", training, **changes)[0]
        assert set(labels) == set(network.output_names)
    for task in tasks:
        assert labels[task].tolist() == parts["val"][task].tolist()


def test_mirrored_batches_are_the_same_pictures_turned_round(
    notebook, parts, data_folder
):
    flow = notebook.make_flow(
        notebook.make_datagen(), parts["val"], data_folder / "images", batch_size=20
    )
    images, labels = collect(notebook.LabelledBatches(flow))
    turned, same = collect(notebook.LabelledBatches(flow, mirrored=True))
    np.testing.assert_array_equal(turned[:, :, ::-1], images)
    assert (turned != images).any(axis=(1, 2, 3)).all()
    assert {task: label.tolist() for task, label in same.items()} == {
        task: label.tolist() for task, label in labels.items()
    }


def test_a_flow_takes_one_set_alone(notebook, loaded, data_folder):
    with pytest.raises(ValueError, match="unpack"):
        notebook.make_flow(notebook.make_datagen(), loaded[0], data_folder / "images")


@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_age_distribution_is_centred_on_the_age(notebook, sigma):
    spread = notebook.age_distribution(notebook.AGES, sigma)
    assert spread.shape == (117, 117) and spread.dtype == np.float32
    np.testing.assert_allclose(spread.sum(axis=1), 1, rtol=1e-5)
    assert (spread.argmax(axis=1) == notebook.AGES).all()
    inside = slice(15, 102)  # far from both ends nothing is cut off
    means = spread @ notebook.AGES
    np.testing.assert_allclose(means[inside], notebook.AGES[inside], atol=1e-3)
    variance = (spread[50] * (notebook.AGES - 50) ** 2).sum()
    assert variance == pytest.approx(sigma**2, rel=1e-3)


MILD = ["× 1/255", "±6°", "±4 pixels", "±4 pixels", "0.90 to 1.10"]
MILD += ["0.80 to 1.20", "half of the images"]
RANGES = {
    "none": ["× 1/255", "±0°", "±0 pixels", "±0 pixels", "1.00 to 1.00"]
    + ["1.00 to 1.00", "never", "splines of order 1"],
    "mild": [*MILD, "splines of order 3"],
    "mild, linear": [*MILD, "splines of order 1"],
}


def test_cubic_splines_keep_what_linear_interpolation_blurs(notebook, parts, batches):
    def measured(augmentation):
        delivered = batches("train", training=True, augmentation=augmentation)
        return notebook.sharpness(delivered[0][0])

    linear, cubic = measured("mild, linear"), measured("mild")
    assert linear < cubic < 1.1 * measured("none")
    assert linear < 0.9 * cubic


def test_sharpness_is_the_mean_laplacian(notebook):
    flat = np.full((2, 5, 5, 1), 0.5)
    ramp = flat + np.arange(5)[:, None]
    dot = np.zeros((1, 5, 5, 1))
    dot[0, 2, 2] = 1
    assert notebook.sharpness(flat) == notebook.sharpness(ramp) == 0
    assert notebook.sharpness(dot) == pytest.approx((4 + 4 * 1) / 9)


@pytest.mark.parametrize("augmentation", RANGES)
def test_ranges_are_those_of_the_generator(notebook, augmentation):
    table = notebook.augmentation_ranges(notebook.make_datagen(augmentation))
    assert table["Range"].tolist() == RANGES[augmentation]


def test_ranges_are_read_off_the_object(notebook):
    datagen = notebook.make_datagen("mild")
    datagen.rotation_range = 33
    datagen.horizontal_flip = False
    ranges = notebook.augmentation_ranges(datagen).set_index("Change")["Range"]
    assert ranges["rotation"] == "±33°" and ranges["horizontal flip"] == "never"


def test_random_contrast_keeps_the_mean_and_stays_in_range(notebook):
    change = notebook.random_contrast(0.2)
    assert change.amount == 0.2
    generator = np.random.default_rng(0)
    middle = generator.uniform(100, 150, (48, 48, 1))
    factors = []
    for _ in range(200):
        changed = change(middle)
        assert changed.mean() == pytest.approx(middle.mean())
        factors.append(changed.std() / middle.std())
    assert 0.8 <= min(factors) < 0.85 and 1.15 < max(factors) <= 1.2
    extreme = 255.0 * generator.integers(0, 2, (48, 48, 1))
    for _ in range(20):
        changed = change(extreme)
        assert changed.min() >= 0 and changed.max() <= 255
