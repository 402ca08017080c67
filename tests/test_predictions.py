"""Predictions: in the table's order, made once, kept; looks at tests are logged."""

import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest
import tiny

from facekit import labels, measure, predictions, runs

PREDICTED = measure.PREDICTED


def refuse(model, rows):
    raise AssertionError("predicted, although it should be loaded")


class TestPredict:
    @pytest.mark.parametrize("flip", [False, True])
    def test_rows_are_the_models_answers_in_the_tables_order(self, trained, data, flip):
        model, rows = trained.load(), data.rows("test").sample(frac=1, random_state=0)
        flow = tiny.flow_of(data, "test", batch_size=17)
        table = predictions.predict(model, rows, flow, flip)
        assert table[list(rows)].equals(rows)
        images = data.images[rows.index, ..., None] / np.float32(255)
        views = [images, images[:, :, ::-1]] if flip else [images]
        outputs = [model.predict_on_batch(view) for view in views]
        expected = np.mean(
            [np.column_stack([out[task] for task in labels.LABELS]) for out in outputs],
            axis=0,
        )
        np.testing.assert_allclose(table[PREDICTED], expected, rtol=1e-4)

    @pytest.mark.parametrize("kind", ["dict", "plain"])
    def test_what_a_network_does_not_answer_is_missing(self, trained, data, kind):
        whole, rows = trained.load(), data.rows("test")
        output = whole.output["gender"]
        output = {"gender": output} if kind == "dict" else output
        alone = keras.Model(whole.input, output)
        table = predictions.predict(alone, rows, tiny.flow_of(data, "test"))
        assert table["gender_probability"].between(0, 1).all()
        others = [name for name in PREDICTED if name != "gender_probability"]
        assert table[others].isna().all(axis=None)

    def test_those_of_three_networks_are_joined_by_picture(self, predicted):
        orders = {}
        for seed, task in enumerate(labels.LABELS):
            lacks = [n for n in PREDICTED if n not in measure.PREDICTED_BY[task]]
            alone = predicted.assign(**dict.fromkeys(lacks, np.nan))
            orders[task] = alone.sample(frac=1, random_state=seed)
        joined = predictions.join_tasks(orders)
        assert list(joined.index) == list(orders["age"].index)
        pd.testing.assert_frame_equal(joined.loc[predicted.index], predicted)


class TestMakeOrLoad:
    @pytest.fixture
    def make(self, data):
        """Give what predicts, and counts how often."""

        def make(model, rows):
            make.calls += 1
            return tiny.predict(model, rows, data)

        make.calls = 0
        return make

    def test_the_file_holds_no_names(self, copy_run, data, make):
        rows = data.rows("test")
        predictions.make_or_load(copy_run, "test", rows, make)
        content = copy_run.path("_test.npz").read_bytes()
        with np.load(copy_run.path("_test.npz"), allow_pickle=False) as file:
            assert set(file.files) == {"name_hash", "values"}
            assert file["name_hash"].dtype == np.uint64
            assert (np.diff(file["name_hash"].astype(object)) > 0).all()  # in no order
            content += b"".join(file[name].tobytes() for name in file.files)
        assert not [name for name in rows["img_name"] if name.encode() in content]

    def test_other_pictures_than_the_kept_are_predicted(self, copy_run, data, make):
        rows = data.rows("test")
        predictions.make_or_load(copy_run, "test", rows[:5], make)
        whole = predictions.make_or_load(copy_run, "test", rows, make)
        assert make.calls == 2 and len(whole) == len(rows)
        predictions.make_or_load(copy_run, "test", rows, refuse)

    def test_what_is_shipped_is_not_written_over(self, copy_run, data, make, tmp_path):
        shipped = tmp_path / "model/utkface/faces"
        shipped.mkdir(parents=True)
        copy_run.path(".keras").rename(shipped / "mtl.keras")
        run = dataclasses.replace(copy_run, stem=shipped / "mtl")
        assert not run.own
        rows = data.rows("test")
        for _ in range(2):
            assert len(predictions.make_or_load(run, "test", rows, make)) == len(rows)
        assert make.calls == 2
        assert [path.name for path in shipped.iterdir()] == ["mtl.keras"]

    def test_without_weights_and_predictions_it_says_what_to_do(self, copy_run, data):
        copy_run.path(".keras").unlink()
        message = r"mtl has neither .* for all 60 pictures \(test\): set RETRAIN = True"
        with pytest.raises(ValueError, match=message):
            predictions.make_or_load(copy_run, "test", data.rows("test"), refuse)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_damaged_file_is_none_wherever_the_damage_is(self, copy_run, data, make):
        rows = data.rows("test")[:20]
        made = predictions.make_or_load(copy_run, "test", rows, make)
        path = copy_run.path("_test.npz")
        whole = path.read_bytes()
        unread = 0
        for place in range(0, len(whole), 3):
            turned = whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
            for content in (whole[:place], turned):
                path.write_bytes(content)
                found = predictions._load(path, rows)
                unread += found is None
                if found is not None:  # damage where nothing is said
                    pd.testing.assert_frame_equal(found, made)
        assert unread > 0.9 * 2 * len(whole) / 3
        path.write_text("name_hash,values")
        again = predictions.make_or_load(copy_run, "test", rows, make)
        pd.testing.assert_frame_equal(again, made)
        assert make.calls == 2


class TestLooks:
    def looks(self, run):
        return pd.read_csv(run.stem.with_name("test_looks.csv"))

    def test_a_look_has_date_commit_figures_and_reason(self, copy_run, predicted):
        predictions.log_look(copy_run, "test", predicted, "a reason")
        (row,) = self.looks(copy_run).to_dict("records")
        points = measure.point_values(predicted)
        assert row["n"] == 60 and row["why"] == "a reason" and row["set"] == "test"
        assert row["training"] == "mtl" and row["date"].startswith("20")
        assert str(row["commit"]) == copy_run.history["commit"]  # may be all digits
        for metric in measure.HEADLINE:
            assert row[metric] == pytest.approx(points[metric], abs=1e-5)

    def test_each_training_is_logged_once_for_each_set(self, copy_run, predicted):
        later = copy_run.history | {"date": "2999-01-01 00:00 UTC"}
        retrained = dataclasses.replace(copy_run, history=later)
        other = runs.Run("other", copy_run.stem, copy_run.history)
        for run in (copy_run, retrained, other):
            for key in ("test", "foreign", "test"):
                predictions.log_look(run, key, predicted, "a reason")
        looks = self.looks(copy_run)[["training", "trained", "set"]]
        assert len(looks) == 6 == len(looks.drop_duplicates())
