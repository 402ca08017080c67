"""Changed pictures are what their names say."""

import keras
import numpy as np
import pandas as pd
import pytest

from studies import framing


@pytest.fixture(scope="module")
def spots():
    """Two pictures of bright spots on grey."""
    images = np.full((2, 48, 48), 60, "uint8")
    images[:, 22:26, 22:26] = 240
    images[:, 14:17, 30:33] = 200
    return images


def middle(picture):
    """Row and column of the brightness above the background, and its sum."""
    light = (picture.astype(float) - 60).clip(0)
    down, across = np.mgrid[:48, :48]
    total = light.sum()
    return (light * down).sum() / total, (light * across).sum() / total, total


def test_without_a_change_pictures_stay_as_they_are(spots):
    assert (framing.change(spots) == spots).all()


def test_pictures_are_moved_down_and_zoomed(spots):
    down, across, light = middle(spots[0])
    moved = framing.change(spots, down=6)
    assert moved.shape == spots.shape and moved.dtype == "uint8"
    assert middle(moved[1])[:2] == pytest.approx((down + 6, across), abs=0.1)
    for zoom in (0.8, 1.25):
        assert middle(framing.change(spots, zoom=zoom)[0])[2] == pytest.approx(
            light * zoom**2, rel=0.15
        )


def test_pictures_are_turned_about_their_middle(spots):
    turned = framing.change(spots, turn=90)[0].astype(int)
    ways = [np.rot90(spots[0].astype(int), k) for k in (1, 3)]
    assert min(np.abs(turned - way).max() for way in ways) <= 1


def test_pictures_lose_detail(spots):
    noise = np.random.default_rng(0).integers(0, 255, (1, 48, 48)).astype("uint8")
    blurred = framing.change(noise, detail=0.5)[0].astype(float)
    assert np.abs(np.diff(blurred)).mean() < 0.5 * np.abs(np.diff(noise * 1.0)).mean()
    coarse = framing.change(spots, quality=30)
    assert 0 < np.abs(coarse * 1.0 - spots).mean() < 10


def test_every_change_changes_something(spots):
    for name, how in framing.CHANGES.items():
        assert (framing.change(spots, **how) != spots).any(), name


def test_changed_pictures_are_predicted_both_ways_round(spots):
    image = keras.Input((48, 48, 1), name="image")
    half = keras.layers.Cropping2D(((0, 0), (0, 24)))(image)  # the left one alone
    mean = keras.layers.GlobalAveragePooling2D()(half)
    model = keras.Model(image, {"age": mean})
    rows = pd.DataFrame({"age": [1, 2], "gender": 0, "ethnicity": 0})
    found = framing.predict_changed(model, rows, spots, {"down": 6})
    whole = framing.change(spots, down=6).mean(axis=(1, 2)) / 255
    assert found["age_predicted"].to_numpy() == pytest.approx(whole, abs=1e-5)
    assert found["gender_probability"].isna().all()


def test_the_worst_change_is_named_for_each_task():
    kept = dict.fromkeys(
        ("age_mae", "gender_accuracy", "ethnicity_accuracy"), (0, 0, 0)
    )
    steps = {
        "turned": kept | {"age_mae": (2.0, 1, 3), "gender_accuracy": (-0.1, -1, 0)},
        "moved": kept | {"age_mae": (-5, -6, -4), "ethnicity_accuracy": (-0.2, -1, 0)},
        "sharper": kept | {"age_mae": (1, 0, 2), "gender_accuracy": (0.5, 0, 1)},
    }
    steps["moved"]["gender_accuracy"] = (0.1, 0, 1)
    steps["turned"]["ethnicity_accuracy"] = (-0.1, 0, 1)
    assert framing.tell_worst(steps) == (
        "age: turned, then sharper; gender: turned, then moved; "
        "ethnicity: moved, then turned"
    )
