"""Twins, near-twins and conflicting labels, on pictures constructed for it."""

import numpy as np
import pandas as pd
import pytest


def texture(seed):
    return np.random.default_rng(seed).integers(40, 200, (48, 48)).astype("uint8")


def smooth(seed):
    """Make a picture whose halves of 24×24 hold all there is in it."""
    small = np.random.default_rng(seed).integers(40, 200, (24, 24))
    return np.kron(small, np.ones((2, 2), int)).astype("uint8")


@pytest.fixture
def audit_of(notebook):
    """Audit pictures; returns their table, audit and marks."""

    def audit(images, splits, **labels):
        table = pd.DataFrame({"split": splits, "age": 30, "gender": 0, "ethnicity": 0})
        table = table.assign(**labels)
        found = notebook.audit_twins(table, np.stack(list(images)))
        return table, found, notebook.mark_twins(table, found)

    return audit


NOISE = np.random.default_rng(9).integers(-1, 2, (48, 48))
CHANGES = {  # what becomes of a picture, and whether that is its twin, its near-twin
    "the same pixels": (lambda face: face, True, True),
    "brighter": (lambda face: face + 30, False, True),
    "more contrast": (lambda face: (face * 1.2).astype("uint8"), False, True),
    "a little noise": (lambda face: (face + NOISE).astype("uint8"), False, True),
    "moved by half": (lambda face: np.roll(face, 24, axis=1), False, False),
    "mirrored": (lambda face: face[:, ::-1], False, False),
    "negative": (lambda face: 255 - face, False, False),
}


@pytest.mark.parametrize(
    ("change", "twin", "near"), CHANGES.values(), ids=CHANGES.keys()
)
def test_which_changes_make_a_twin(audit_of, change, twin, near):
    face = smooth(1)
    images = [face, smooth(2), change(face), smooth(3)]
    _, _, marks = audit_of(images, ["train", "val", "test", "test"])
    assert marks["twin"].tolist() == [twin, False, twin, False]
    assert marks["near_twin"].tolist() == [near, False, near, False]


def test_twins_within_a_set_are_counted_but_not_marked(notebook, audit_of):
    images = [texture(1), texture(1), texture(2), texture(3)]
    table, audit, marks = audit_of(images, ["train", "train", "val", "test"])
    assert not marks.to_numpy().any()
    counts = notebook.describe_twins(table, audit).set_index("Images of the set")
    assert counts.loc["train", "identical in train"] == 2
    assert counts.loc["train", "identical or near in train"] == 2
    assert counts.filter(like="in ").to_numpy().sum() == 4


def test_a_picture_is_not_its_own_twin(audit_of):
    _, audit, _ = audit_of(map(texture, range(3)), ["train", "val", "test"])
    assert not audit[["in_train", "in_val", "in_test"]].to_numpy().any()
    assert audit.filter(like="near_").to_numpy().max() < 0.5


def test_constant_pictures_correlate_with_nothing(audit_of):
    grey, black = np.full((48, 48), 128, "uint8"), np.zeros((48, 48), "uint8")
    _, audit, marks = audit_of(
        [grey, black, texture(1), grey], ["train", "train", "val", "test"]
    )
    assert np.isfinite(audit.filter(like="near_").to_numpy()).all()
    assert marks["near_twin"].tolist() == [True, False, False, True]
    assert marks["twin"].tolist() == [True, False, False, True]


def test_conflicts_are_counted_by_group_and_label(notebook, audit_of):
    images = [texture(seed) for seed in (1, 1, 1, 2, 2, 3, 3, 4)]
    table, audit, _ = audit_of(
        images,
        ["train", "val", "test", "train", "test", "train", "train", "val"],
        age=[20, 20, 21, 30, 30, 40, 40, 50],
        gender=[0, 1, 1, 0, 0, 1, 1, 0],
        ethnicity=[0, 0, 0, 2, 3, 4, 4, 1],
    )
    assert notebook.describe_conflicts(table, audit) == {
        "groups": 3,
        "pictures": 7,
        "conflicting": 2,
        "age": 1,
        "gender": 1,
        "ethnicity": 1,
    }


def test_no_twins_no_conflicts(notebook, audit_of):
    table, audit, _ = audit_of(map(texture, range(3)), ["train", "val", "test"])
    assert set(notebook.describe_conflicts(table, audit).values()) == {0}


def test_standardised_products_are_correlations(notebook):
    images = np.stack([texture(seed) for seed in range(5)])
    vectors = notebook.standardise(images)
    halves = images.reshape(5, 24, 2, 24, 2).mean(axis=(2, 4)).reshape(5, -1)
    np.testing.assert_allclose(vectors @ vectors.T, np.corrcoef(halves), atol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 299])
def test_blocks_change_nothing(notebook, loaded, block):
    table, images, _ = loaded
    splits = table["split"].to_numpy()
    whole = notebook.nearest_by_split(images, splits, block=len(images))
    blocks = notebook.nearest_by_split(images, splits, block=block)
    np.testing.assert_allclose(blocks, whole, atol=1e-5)


def test_digests_are_equal_for_equal_pixels_alone(notebook):
    face = texture(1)
    other = face.copy()
    other[47, 47] += 1
    first, again, changed = notebook.digest_pictures(np.stack([face, face, other]))
    assert first == again != changed
