"""The network: what is shared, how it learns, what comes out, what is saved."""

import zipfile

import keras
import numpy as np
import pandas as pd
import pytest

ALLOWED = {"InputLayer", "Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dropout"}
HEADS = ("distribution", "scalar")


@pytest.fixture(params=HEADS)
def network(request, notebook, tiny):
    """Build a small network with each of the two age heads."""
    units = {"filters": [8, 8, 8, 8], "shared_units": 32, "head_units": 32}
    return notebook.build_model(tiny | units | {"age_head": request.param})


@pytest.fixture
def faces(loaded):
    return loaded[1][:64, ..., None].astype("float32") / 255


@pytest.fixture
def float32_afterwards(notebook):
    yield
    keras.mixed_precision.set_dtype_policy("float32")


def ancestors(tensor):
    """List the layers that a tensor is computed by."""
    found, tensors = set(), [tensor]
    while tensors:
        layer, node, _ = tensors.pop()._keras_history
        if layer.name not in found:
            found.add(layer.name)
            tensors += layer._inbound_nodes[node].input_tensors
    return found


class TestSharing:
    def test_every_head_uses_the_whole_trunk(self, notebook, network):
        shared = {
            layer.name
            for layer in network.layers
            if notebook.task_of(layer) == "shared"
        }
        assert {"shared_conv1_1", "shared_conv4_1", "shared_dense"} <= shared
        for output in network.output.values():
            assert shared <= ancestors(output)

    def test_heads_share_nothing_beyond_the_trunk(self, notebook, network):
        for task in notebook.LABELS:
            owners = {
                notebook.task_of(network.get_layer(name))
                for name in ancestors(network.output[task])
            }
            assert owners == {"shared", task}

    @pytest.mark.parametrize("task", ["age", "gender", "ethnicity"])
    def test_a_tasks_loss_reaches_the_trunk_and_no_other_head(
        self, notebook, network, loaded, faces, task
    ):
        tf = notebook.tf
        target = loaded[0][task].to_numpy()[:64, None].astype("float32")
        loss = keras.losses.get(notebook.LOSSES[task])
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(target, network(faces)[task]))
        gradients = tape.gradient(value, network.trainable_variables)
        reached = {"shared": [], "other": [], task: []}
        for variable, gradient in zip(
            network.trainable_variables, gradients, strict=True
        ):
            owner = variable.path.split("/")[0].split("_")[0]
            moved = gradient is not None and float(tf.reduce_max(abs(gradient))) > 0
            reached[owner if owner in reached else "other"].append(moved)
        assert all(reached["shared"]) and all(reached[task])
        assert reached["other"] and not any(reached["other"])

    def test_only_the_assignments_layers_are_used(self, network):
        assert {type(layer).__name__ for layer in network.layers} <= ALLOWED

    def test_layers_are_told_apart_by_name(self, notebook, network):
        table = notebook.layer_table(network)
        assert set(table["Part"]) == {"shared", *notebook.LABELS}
        counts = table["Parameters"].str.replace(",", "").astype(int)
        assert counts.sum() == network.count_params()

    @pytest.mark.parametrize("task", ["age", "gender", "ethnicity"])
    def test_a_network_for_one_task_has_that_head_alone(self, notebook, tiny, task):
        alone = notebook.build_model(tiny | {"tasks": [task]})
        age = {"age", "age_distribution"}
        assert set(alone.output) == (age if task == "age" else {task})
        owners = {notebook.task_of(layer) for layer in alone.layers}
        assert owners == {"shared", task}


def trunk_of(network, task):
    """Give the weights of a task's own trunk, by their names without the owner."""
    return {
        weight.path.removeprefix(f"{task}_trunk_"): weight
        for weight in network.trainable_variables
        if weight.path.startswith(f"{task}_trunk_")
    }


def trunk_distance(network, tasks=("age", "gender", "ethnicity")):
    """Sum up the squared distances of the trunks' weights from their mean."""
    trunks = [trunk_of(network, task).values() for task in tasks]
    together = [np.stack(weights) for weights in zip(*trunks, strict=True)]
    return sum(((stack - stack.mean(axis=0)) ** 2).sum() for stack in together)


class TestSoftSharing:
    @pytest.fixture
    def build(self, notebook, tiny):
        """Give a function that builds three very small trunks, with a penalty."""
        small = tiny | {"filters": [2], "convolutions": [1], "shared_units": 4}
        return lambda penalty: notebook.build_model(small | {"soft_penalty": penalty})

    @pytest.fixture
    def labels(self, notebook, loaded):
        labels = {task: loaded[0][task].to_numpy()[:64] for task in notebook.LABELS}
        spread = notebook.age_distribution(labels["age"], 2.5)
        return {task: label[:, None] for task, label in labels.items()} | {
            "age_distribution": spread
        }

    def test_every_task_has_a_trunk_of_its_own(self, notebook, tiny):
        network = notebook.build_model(tiny | {"soft_penalty": 0.01})
        assert set(network.output) == set(notebook.build_model(tiny).output)
        for task in notebook.LABELS:
            layers = ancestors(network.output[task]) - {"image"}
            owners = {notebook.task_of(network.get_layer(name)) for name in layers}
            assert owners == {task}
            assert {f"{task}_trunk_conv1_1", f"{task}_trunk_dense"} <= layers

    def test_trunks_are_as_large_as_the_shared_one(self, notebook, tiny):
        hard, soft = (
            notebook.build_model(tiny | {"soft_penalty": penalty})
            for penalty in (None, 0.01)
        )
        shared = [layer for layer in hard.layers if notebook.task_of(layer) == "shared"]
        trunk = sum(layer.count_params() for layer in shared)
        assert soft.count_params() == hard.count_params() + 2 * trunk

    @pytest.mark.parametrize("penalty", [0.0, 0.01])
    def test_trunks_start_from_the_same_weights(self, build, penalty):
        network = build(penalty)
        first, *others = (trunk_of(network, t) for t in ("age", "gender", "ethnicity"))
        assert {"conv1_1/kernel", "dense/kernel", "dense/bias"} <= set(first)
        assert first["conv1_1/kernel"].numpy().std() > 0
        for other in others:
            assert other.keys() == first.keys()
            for name, weight in first.items():
                np.testing.assert_array_equal(other[name], weight)

    @pytest.mark.parametrize("penalty", [0.0, 0.01, 3.0])
    def test_the_penalty_is_the_squared_distance_in_training_alone(
        self, notebook, tiny, build, faces, labels, penalty
    ):
        def losses():
            """Give the loss in evaluation, and in training before its step."""
            for measure in (network.test_on_batch, network.train_on_batch):
                network.reset_metrics()
                yield float(measure(faces, labels, return_dict=True)["loss"])

        network = build(penalty)
        notebook.compile_model(network, tiny)
        network.run_eagerly = True
        evaluation, training = losses()
        assert training == pytest.approx(evaluation, rel=1e-5)  # all are the same
        for number, task in enumerate(notebook.LABELS):
            for weight in trunk_of(network, task).values():
                weight.assign(weight + 0.1 * number)
        outputs, distance = network(faces), trunk_distance(network)
        assert distance > 1
        expected = sum(
            tiny["loss_weights"][head]
            * float(np.mean(keras.losses.get(loss)(labels[head], outputs[head])))
            for head, loss in notebook.LOSSES.items()
        )
        evaluation, training = losses()
        assert evaluation == pytest.approx(expected, rel=1e-4)
        assert training == pytest.approx(expected + penalty * distance, rel=1e-4)

    def test_a_large_penalty_keeps_the_trunks_together(
        self, notebook, build, faces, labels
    ):
        apart = {}
        for penalty in (0.0, 9.0):
            network = build(penalty)
            optimizer = keras.optimizers.SGD(0.05)
            network.compile(optimizer, notebook.LOSSES, run_eagerly=True)
            for _ in range(6):
                network.train_on_batch(faces, labels)
            apart[penalty] = trunk_distance(network)
        assert 0 < 5 * apart[9.0] < apart[0.0]


class TestOutputs:
    def test_names_shapes_and_ranges(self, notebook, network, faces):
        outputs = network.predict(faces, verbose=0)
        expected = {"age": 1, "gender": 1, "ethnicity": 5}
        if "age_distribution" in outputs:
            expected["age_distribution"] = 117
        assert {name: out.shape for name, out in outputs.items()} == {
            name: (64, units) for name, units in expected.items()
        }
        assert ((outputs["gender"] > 0) & (outputs["gender"] < 1)).all()
        np.testing.assert_allclose(outputs["ethnicity"].sum(axis=1), 1, rtol=1e-5)
        assert outputs["ethnicity"].min() >= 0

    def test_the_distributional_head_returns_the_expected_age(
        self, notebook, tiny, faces
    ):
        outputs = notebook.build_model(tiny).predict(faces, verbose=0)
        expected = outputs["age_distribution"] @ np.arange(117)
        np.testing.assert_allclose(outputs["age"][:, 0], expected, rtol=1e-4)
        assert outputs["age"].min() >= 0 and outputs["age"].max() <= 116

    def test_the_scalar_head_returns_years(self, notebook, tiny, faces):
        network = notebook.build_model(tiny | {"age_head": "scalar"})
        hundreds = keras.Model(network.input, network.get_layer("age_hundreds").output)
        np.testing.assert_allclose(
            network.predict(faces, verbose=0)["age"],
            100 * hundreds.predict(faces, verbose=0),
            rtol=1e-4,
        )

    def test_the_age_layer_is_fixed(self, notebook, network):
        fixed = network.get_layer("age")
        assert not fixed.trainable and not fixed.use_bias
        (kernel,) = fixed.get_weights()
        expected = np.arange(117) if len(kernel) > 1 else [100]
        assert kernel[:, 0].tolist() == list(expected)

    def test_training_leaves_the_age_layer_alone(self, notebook, trained):
        model = keras.saving.load_model(
            notebook.of_run(trained["stem"], ".keras"), compile=False
        )
        (kernel,) = model.get_layer("age").get_weights()
        assert kernel[:, 0].tolist() == list(range(117))

    def test_outputs_are_float32_under_mixed_precision(
        self, notebook, tiny, float32_afterwards
    ):
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
        network = notebook.build_model(tiny)
        assert {out.dtype for out in network.output.values()} == {"float32"}
        assert network.get_layer("shared_conv1_1").compute_dtype == "bfloat16"

    def test_the_seed_decides_the_weights(self, notebook, tiny):
        kernels = [
            notebook.build_model(tiny | {"seed": seed}).get_weights()[0]
            for seed in (1, 1, 2)
        ]
        assert (kernels[0] == kernels[1]).all()
        assert (kernels[0] != kernels[2]).any()

    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_dropout_acts_in_training_alone(self, notebook, tiny, faces, dropout):
        network = notebook.build_model(tiny | {"dropout": dropout})
        drawn = [network(faces, training=True)["age"].numpy() for _ in range(2)]
        assert (drawn[0] == drawn[1]).all() == (dropout == 0)
        same = [network(faces, training=False)["age"].numpy() for _ in range(2)]
        assert (same[0] == same[1]).all()


class TestSize:
    def test_the_main_network_has_less_than_three_million_parameters(self, notebook):
        assert notebook.build_model(notebook.MAIN_RUN).count_params() < 3e6

    def test_every_run_can_be_built(self, notebook):
        runs = notebook.FIVE_RUNS | notebook.STUDY_RUNS
        assert len(notebook.FIVE_RUNS) >= 5
        for hyperparameters in runs.values():
            outputs = notebook.build_model(hyperparameters).output
            assert set(notebook.LABELS) <= set(outputs)
        for kind in ("hard", "soft", *notebook.LABELS):
            run = notebook.SHARING_RUNS[f"{kind}_2"]
            outputs = set(notebook.build_model(run).output)
            assert outputs - {"age_distribution"} == set(run["tasks"])

    def test_five_runs_tune_five_hyperparameters(self, notebook):
        runs = pd.DataFrame([*notebook.FIVE_RUNS.values(), notebook.MAIN_RUN])
        tuned = [name for name in runs if runs[name].astype(str).nunique() > 1]
        assert len(tuned) >= 5


class TestCompilation:
    def test_a_loss_and_its_weight_per_head(self, notebook, network):
        notebook.compile_model(network, notebook.MAIN_RUN, steps_per_epoch=10)
        loss, weights = network._compile_loss, notebook.MAIN_RUN["loss_weights"]
        assert set(loss._user_loss) == set(network.output_names)
        assert loss._user_loss_weights == {
            head: weights[head] for head in network.output_names
        }

    def test_the_learning_rate_rises_then_falls(self, notebook, network):
        run = notebook.MAIN_RUN | {"epochs": 10, "warmup_epochs": 2}
        notebook.compile_model(network, run, steps_per_epoch=10)
        schedule = network.optimizer._learning_rate
        rates = [float(schedule(step)) for step in range(101)]
        assert np.argmax(rates) == 20
        assert rates[20] == pytest.approx(run["learning_rate"])
        assert rates[0] == pytest.approx(0) == rates[100]


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def precision(request, float32_afterwards):
    keras.mixed_precision.set_dtype_policy(request.param)
    return request.param


def steps_of(optimizer, values, gradients):
    """Give a variable that starts at `values` to an optimizer; returns each step."""
    variable = keras.Variable(values, dtype="float32")
    optimizer.build([variable])
    steps = []
    for gradient in gradients:
        before = np.array(variable)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        steps.append(before - np.array(variable))
    return steps


class TestMuon:
    RATE = 0.01

    @pytest.fixture
    def muon(self, notebook):
        hyperparameters = {"optimizer": "muon", "weight_decay": 0.0}
        return notebook.make_optimizer(hyperparameters, self.RATE)

    @pytest.fixture
    def gradients(self):
        """Draw two gradients of a convolution, with very unequal directions."""
        generator = np.random.default_rng(0)
        drawn = generator.normal(size=(2, 3, 3, 8, 32)) * np.geomspace(1, 0.05, 32)
        return drawn.astype("float32")

    def test_all_directions_of_a_kernel_learn_at_one_pace(
        self, precision, muon, gradients
    ):
        (step,) = steps_of(muon, np.zeros((3, 3, 8, 32)), gradients[:1])
        before, after = (
            np.linalg.svd(kernel.reshape(72, 32), compute_uv=False)
            for kernel in (gradients[0], step)
        )
        assert before.max() > 15 * before.min()
        assert after.max() < 2 * after.min()
        # The size that Adam's steps have: 0.2 of the rate per weight (Liu et al.)
        assert np.sqrt((step**2).mean()) == pytest.approx(0.2 * self.RATE, rel=0.15)

    def test_a_step_goes_downhill(self, precision, muon, gradients):
        (step,) = steps_of(muon, np.zeros((3, 3, 8, 32)), gradients[:1])
        assert (step * gradients[0]).sum() > 0

    def test_steps_are_those_of_keras_muon_on_the_matrix(self, muon, gradients):
        kernel = np.ones((3, 3, 8, 32))
        ours = steps_of(muon, kernel, gradients)
        keras_own = keras.optimizers.Muon(self.RATE, weight_decay=None)
        theirs = steps_of(keras_own, np.ones((72, 32)), gradients.reshape(2, 72, 32))
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.reshape(72, 32), other, atol=1e-6)

    def test_low_precision_changes_a_step_little(
        self, notebook, muon, gradients, float32_afterwards
    ):
        kernel = np.zeros((3, 3, 8, 32))
        exact = steps_of(muon, kernel, gradients)
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
        again = notebook.make_optimizer(
            {"optimizer": "muon", "weight_decay": 0.0}, self.RATE
        )
        for step, rounded in zip(
            exact, steps_of(again, kernel, gradients), strict=True
        ):
            assert np.linalg.norm(rounded - step) < 0.1 * np.linalg.norm(step)

    @pytest.mark.parametrize("age_head", HEADS)
    def test_small_kernels_biases_and_outputs_learn_by_adam(
        self, notebook, tiny, muon, age_head
    ):
        sizes = {"filters": [31, 32, 32, 32], "shared_units": 32, "head_units": 32}
        network = notebook.build_model(tiny | sizes | {"age_head": age_head})
        variables = network.trainable_variables
        before = [np.array(variable) for variable in variables]
        muon.build(variables)
        generator = np.random.default_rng(0)
        muon.apply(
            [generator.normal(size=v.shape).astype("float32") for v in variables]
        )
        # Adam's first step has the same size everywhere, Muon's has not.
        others = {
            variable.path
            for variable, values in zip(variables, before, strict=True)
            if not np.allclose(abs(values - variable), self.RATE, rtol=0.01)
        }
        assert others == {
            "shared_conv2_1/kernel",
            "shared_conv3_1/kernel",
            "shared_conv4_1/kernel",
            "shared_dense/kernel",
            "age_dense/kernel",
            "gender_dense/kernel",
            "ethnicity_dense/kernel",
        }

    def test_a_network_learns_with_it(self, precision, notebook, tiny, faces):
        sizes = {"filters": [4, 32], "convolutions": [1, 1], "shared_units": 32}
        run = tiny | sizes | {"tasks": ["gender"], "warmup_epochs": 0, "epochs": 10}
        network = notebook.build_model(run | {"optimizer": "muon"})
        notebook.compile_model(network, run | {"learning_rate": 0.01})
        network.run_eagerly = True
        brightness = faces.mean(axis=(1, 2))
        labels = {"gender": brightness > np.median(brightness)}
        losses = [network.train_on_batch(faces - 0.5, labels)[0] for _ in range(10)]
        assert losses[-1] < 0.5 * losses[0]


class TestOptimizer:
    @pytest.mark.parametrize("decay", [0.0, 0.5])
    @pytest.mark.parametrize("name", ["adam", "muon"])
    def test_weight_decay_shrinks_kernels_and_no_bias(
        self, notebook, network, name, decay
    ):
        run = {"optimizer": name, "weight_decay": decay}
        optimizer = notebook.make_optimizer(run, 0.1)
        variables = network.trainable_variables
        for variable in variables:
            variable.assign(np.ones(variable.shape))
        optimizer.build(variables)
        optimizer.apply([np.zeros(variable.shape, "float32") for variable in variables])
        for variable in variables:
            expected = 1 if variable.path.endswith("bias") else 1 - 0.1 * decay
            np.testing.assert_allclose(variable, expected, rtol=1e-6)

    def test_the_two_differ(self, notebook):
        gradient = np.random.default_rng(0).normal(size=(1, 64, 32)).astype("float32")
        adam, muon = (
            steps_of(
                notebook.make_optimizer({"optimizer": name, "weight_decay": 0.0}, 0.1),
                np.zeros((64, 32)),
                gradient,
            )[0]
            for name in ("adam", "muon")
        )
        np.testing.assert_allclose(adam, 0.1 * np.sign(gradient[0]), rtol=0.02)
        assert not np.allclose(muon, adam, rtol=0.1)

    @pytest.mark.parametrize("name", ["sgd", "Muon", None])
    def test_another_one_is_refused_by_name(self, notebook, network, name):
        run = notebook.MAIN_RUN | {"optimizer": name}
        with pytest.raises(ValueError, match=f"{name!r}: use adam, muon or rmsprop"):
            notebook.compile_model(network, run)


class TestExport:
    @pytest.fixture(params=HEADS)
    def exported(self, request, notebook, tiny, tmp_path):
        """Save the weights of a network, export them; returns it and the path."""
        run = tiny | {"age_head": request.param}
        network = notebook.build_model(run)
        network.save_weights(tmp_path / "best.weights.h5")
        path = tmp_path / "model.keras"
        notebook.export_model(tmp_path / "best.weights.h5", run, path)
        return network, path

    def test_it_loads_safely_and_predicts_the_same(self, notebook, exported, faces):
        network, path = exported
        model = keras.saving.load_model(path, safe_mode=True)
        assert list(model.output) == list(notebook.LABELS)
        outputs, expected = (m.predict(faces, verbose=0) for m in (model, network))
        for task in notebook.LABELS:
            np.testing.assert_allclose(outputs[task], expected[task], rtol=1e-5)

    @pytest.mark.parametrize(
        "change",
        [{"tasks": [task]} for task in ("age", "gender", "ethnicity")]
        + [{"soft_penalty": 0.01}],
        ids=["age", "gender", "ethnicity", "soft sharing"],
    )
    def test_it_has_an_output_per_task_whatever_is_shared(
        self, notebook, tiny, tmp_path, faces, change
    ):
        run = tiny | change
        network = notebook.build_model(run)
        for weight in network.trainable_variables:  # trunks start from the same
            weight.assign(keras.random.normal(weight.shape, stddev=0.1))
        network.save_weights(tmp_path / "best.weights.h5")
        path = tmp_path / "model.keras"
        notebook.export_model(tmp_path / "best.weights.h5", run, path)
        with zipfile.ZipFile(path) as archive:
            assert b"SoftSharing" not in archive.read("config.json")
        model = keras.saving.load_model(path, safe_mode=True)
        outputs, expected = (m.predict_on_batch(faces) for m in (model, network))
        assert list(outputs) == run["tasks"]
        for task in run["tasks"]:
            np.testing.assert_allclose(outputs[task], expected[task], rtol=1e-4)

    def test_it_is_float32_and_not_compiled(self, exported):
        model = keras.saving.load_model(exported[1])
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
        assert not model.compiled and getattr(model, "optimizer", None) is None

    def test_weights_of_mixed_precision_are_exported_as_float32(
        self, notebook, tiny, tmp_path, faces, float32_afterwards
    ):
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
        network = notebook.build_model(tiny)
        network.save_weights(tmp_path / "best.weights.h5")
        notebook.export_model(
            tmp_path / "best.weights.h5", tiny, tmp_path / "model.keras"
        )
        model = keras.saving.load_model(tmp_path / "model.keras")
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
        np.testing.assert_array_equal(
            model.get_weights()[0], network.get_weights()[0].astype("float32")
        )


class TestPredictions:
    @pytest.fixture
    def saved(self, notebook, predicted, tmp_path):
        path = tmp_path / "predictions.npz"
        notebook.save_predictions(path, predicted)
        return path

    @pytest.fixture
    def model(self, notebook, trained):
        return keras.saving.load_model(notebook.of_run(trained["stem"], ".keras"))

    @pytest.mark.parametrize("flip_averaging", [False, True])
    def test_rows_are_the_models_answers_in_the_tables_order(
        self, notebook, model, parts, context, loaded, flip_averaging
    ):
        shuffled = parts["test"].sample(frac=1, random_state=0)
        table = notebook.predict_table(
            model, shuffled, context["folder"], flip_averaging
        )
        pd.testing.assert_frame_equal(table[list(shuffled)], shuffled)
        images = loaded[1][shuffled.index, ..., None] / np.float32(255)
        views = [images, images[:, :, ::-1]] if flip_averaging else [images]
        outputs = [model.predict_on_batch(view) for view in views]
        columns = np.mean(
            [
                np.column_stack([out[task] for task in notebook.LABELS])
                for out in outputs
            ],
            axis=0,
        )
        np.testing.assert_allclose(table[notebook.PREDICTED], columns, rtol=1e-4)

    def test_a_picture_and_its_mirror_image_get_the_same_answer(
        self, notebook, model, loaded, save_picture, tmp_path
    ):
        (tmp_path / "test").mkdir()
        names = []
        for number, face in enumerate(loaded[1][:4]):
            for kind, pixels in (("seen", face), ("mirrored", face[:, ::-1])):
                names.append(f"{kind}_{number}.png")
                save_picture(tmp_path / "test" / names[-1], pixels)
        table = loaded[0][:8].assign(img_name=names, split="test")
        averaged, single = (
            notebook.predict_table(model, table, tmp_path, flip)[notebook.PREDICTED]
            for flip in (True, False)
        )
        np.testing.assert_allclose(averaged[::2], averaged[1::2], rtol=1e-5)
        assert not np.isclose(single[::2], single[1::2], rtol=1e-5).all(axis=1).any()

    @pytest.mark.parametrize("task", ["age", "gender", "ethnicity"])
    def test_what_a_network_does_not_answer_is_missing(
        self, notebook, tiny, parts, context, tmp_path, task
    ):
        alone = notebook.build_model(tiny | {"tasks": [task]})
        table = notebook.predict_table(alone, parts["test"][:9], context["folder"])
        path = tmp_path / "predictions.npz"
        notebook.save_predictions(path, table)
        again = notebook.load_predictions(path, parts["test"][:9])
        pd.testing.assert_frame_equal(again, table, rtol=1e-3, atol=1e-4)
        for other, columns in notebook.PREDICTED_BY.items():
            assert (table[columns].isna() == (other != task)).all(axis=None)

    def test_those_of_three_networks_are_joined_by_picture(self, notebook, predicted):
        columns, orders = notebook.PREDICTED_BY, {}
        for seed, task in enumerate(notebook.LABELS):
            lacks = [name for name in notebook.PREDICTED if name not in columns[task]]
            alone = predicted.assign(**dict.fromkeys(lacks, np.nan))
            orders[task] = alone.sample(frac=1, random_state=seed)
        before = {task: table.copy() for task, table in orders.items()}
        joined = notebook.join_tasks(orders)
        assert list(joined.index) == list(orders["age"].index)
        pd.testing.assert_frame_equal(joined.loc[predicted.index], predicted)
        for task, table in orders.items():
            pd.testing.assert_frame_equal(table, before[task])

    def test_they_come_back_as_float16(self, notebook, predicted, saved):
        again = notebook.load_predictions(saved, predicted)
        pd.testing.assert_frame_equal(again, predicted, rtol=1e-3, atol=1e-4)
        with np.load(saved, allow_pickle=False) as file:
            assert file["values"].dtype == np.float16

    def test_the_file_holds_no_names(self, predicted, saved):
        with np.load(saved, allow_pickle=False) as file:
            assert set(file.files) == {"name_hash", "values"}
            assert file["name_hash"].dtype == np.uint64
            content = b"".join(file[name].tobytes() for name in file.files)
        for name in predicted["img_name"]:
            assert name.encode() not in content
            assert name.encode() not in saved.read_bytes()

    def test_they_are_joined_by_name(self, notebook, predicted, saved):
        some = predicted.sample(frac=0.5, random_state=0)
        labels = some[["img_name", *notebook.LABELS, "split"]]
        again = notebook.load_predictions(saved, labels)
        assert list(again.index) == list(some.index)
        pd.testing.assert_frame_equal(again[list(some)], some, rtol=1e-3, atol=1e-4)

    def test_rows_without_a_prediction_are_left_out(
        self, notebook, predicted, saved, parts
    ):
        both = pd.concat([predicted[:10], parts["val"][:5], predicted[10:12]])
        again = notebook.load_predictions(saved, both)
        assert list(again.index) == list(predicted.index[:12])

    def test_they_are_made_once(self, notebook, trained, predicted, parts, context):
        path = notebook.of_run(trained["stem"], "_test.npz")
        loaded = trained | {"trained_here": False}
        before = path.stat().st_mtime_ns
        again = notebook.predict_or_load(loaded, parts["test"], context)
        assert path.stat().st_mtime_ns == before
        pd.testing.assert_frame_equal(again, predicted)
