"""Twins, near-twins and conflicting labels, on pictures constructed for it."""

import re

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


class TestTwinDisagreement:
    def disagree(self, notebook, digest, **labels):
        table = pd.DataFrame({"age": 30, "gender": 0, "ethnicity": 0}, index=digest)
        table = table.assign(**labels)
        return notebook.twin_disagreement(table, pd.Series(list(digest)))

    def test_pairs_differ_by_years_and_labels(self, notebook):
        groups = self.disagree(
            notebook,
            list("abcbxa"),
            age=[20, 30, 1, 30, 90, 25],
            gender=[0, 1, 0, 0, 0, 0],
            ethnicity=[4, 0, 1, 0, 0, 1],
        )
        assert list(groups) == list(notebook.LABELS)
        rows = sorted(map(tuple, groups.to_numpy()))
        assert rows == [(0, 1, 0), (5, 0, 1)]

    def test_three_of_a_kind_are_three_pairs(self, notebook):
        groups = self.disagree(
            notebook, list("aaa"), age=[10, 12, 16], ethnicity=[2, 2, 3]
        )
        ((age, gender, ethnicity),) = groups.to_numpy()
        assert age == pytest.approx((2 + 4 + 6) / 3)
        assert gender == 0
        assert ethnicity == pytest.approx(2 / 3)

    def test_codes_further_apart_differ_no_more(self, notebook):
        near = self.disagree(notebook, list("aa"), ethnicity=[0, 1])
        far = self.disagree(notebook, list("aa"), ethnicity=[0, 4])
        assert near["ethnicity"].tolist() == far["ethnicity"].tolist() == [1]

    def test_the_order_of_the_pictures_does_not_matter(self, notebook):
        labels = np.random.default_rng(0).integers(0, 2, 12)
        digest = np.array(list("abcdab" * 2))
        order = np.random.default_rng(1).permutation(12)
        first, second = (
            self.disagree(notebook, digest[rows], gender=labels[rows])
            for rows in (np.arange(12), order)
        )
        pd.testing.assert_frame_equal(first, second)

    def test_rows_are_joined_by_position(self, notebook):
        table = pd.DataFrame(
            {"age": [1, 2, 9], "gender": 0, "ethnicity": 0}, index=[7, 0, 1]
        )
        groups = notebook.twin_disagreement(table, pd.Series(["a", "b", "a"]))
        assert groups["age"].tolist() == [8]

    def test_without_twins_there_is_no_group(self, notebook):
        groups = self.disagree(notebook, list("abc"), age=[1, 2, 3])
        assert groups.empty and list(groups) == list(notebook.LABELS)

    def test_it_counts_as_many_conflicts_as_the_audit(self, notebook, audit_of):
        faces = [texture(number) for number in (1, 2, 1, 3, 2, 2)]
        labels = {"age": [1, 2, 1, 3, 2, 2], "gender": [0, 0, 0, 1, 1, 0]}
        table, audit, _ = audit_of(faces, ["train", "val", "test"] * 2, **labels)
        groups = notebook.twin_disagreement(table, audit["digest"])
        counts = notebook.describe_conflicts(table, audit)
        assert len(groups) == counts["groups"] == 2
        for label in notebook.LABELS:
            assert (groups[label] > 0).sum() == counts[label]


class TestDisagreementTable:
    FIGURES = {"n": 126, "age_mae": 5.25, "gender_accuracy": 0.9} | {
        "ethnicity_accuracy": 0.75
    }

    @pytest.fixture
    def table(self, notebook):
        rows = [[0, 0, 0]] * 6 + [[4, 0, 1]] * 2 + [[8, 1, 0]] * 2
        groups = pd.DataFrame(rows, columns=notebook.LABELS, dtype=float)
        return notebook.disagreement_table(groups, self.FIGURES).set_index("Task")

    def test_means_over_the_groups_and_half_of_them(self, table):
        assert table.index.tolist() == ["Age", "Gender", "Ethnicity"]
        means = table.map(lambda text: float(text.split()[0]))
        assert means["Two labels differ by"].tolist() == [2.4, 20, 20]
        assert means["So the error there is at least"].tolist() == [1.2, 10, 10]

    def test_the_networks_errors_stand_beside_them(self, table):
        errors = table["The network's, on 126 of them"]
        assert errors.tolist() == ["5.2 years", "10.0 %", "25.0 %"]

    def test_every_mean_lies_in_its_interval(self, table):
        for text in table.iloc[:, :2].to_numpy().ravel():
            value, low, high = (float(n) for n in re.findall(r"[\d.]+", text))
            assert low < value < high

    def test_more_groups_narrow_the_interval(self, notebook):
        widths = []
        for copies in (5, 80):
            rows = [[0, 0, 0], [10, 1, 1]] * copies
            groups = pd.DataFrame(rows, columns=notebook.LABELS, dtype=float)
            table = notebook.disagreement_table(groups, self.FIGURES)
            _, low, high = re.findall(r"[\d.]+", table.iloc[0, 1])
            widths.append(float(high) - float(low))
        assert 3 < widths[0] / widths[1] < 5.5  # a root of 16

    def test_where_all_labels_agree_nothing_is_not_a_number(self, notebook):
        groups = pd.DataFrame([[0.0, 0.0, 0.0]] * 3, columns=notebook.LABELS)
        table = notebook.disagreement_table(groups, self.FIGURES)
        assert table["Two labels differ by"].str.contains("0.0–0.0").all()
        assert "nan" not in table.to_string()
