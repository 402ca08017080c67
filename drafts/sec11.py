# %% [markdown]
# <a id="subclassed"></a>
# ## 11 Age by a subclassed model and an own loop (assignment D)
#
# *Regression or classification, ReLU or linear, and does it help to know the gender?* A class derived
# from `keras.Model`, trained by its own loop of `GradientTape`, on a third of the training pictures
# at 100×100.

# %% tags=["functions"]
class AgeEstimator(keras.Model):
    """A network that reads the age, as a class of its own with a loop of its own.

    Parameters
    ----------
    hyperparameters : dict
        ``filters`` (one entry per block of two convolutions and a pooling),
        ``shared_units``, ``dropout``, ``shape``; ``answer``: ``"relu"`` or
        ``"linear"`` (hundreds of years), or ``"classes"`` (a class for each age, the
        expected age is the answer); ``informed``: whether the label of the gender
        joins the features.
    """

    def __init__(self, hyperparameters, **options):
        super().__init__(name="age_estimator", **options)
        self.settings = dict(hyperparameters)
        layers = keras.layers
        self.blocks = []
        for number, filters in enumerate(hyperparameters["filters"], start=1):
            for part in "ab":
                convolution = {"padding": "same", "name": f"conv{number}{part}"}
                convolution |= {"kernel_initializer": "he_normal"}
                self.blocks.append(layers.Conv2D(filters, 3, 1, activation="relu", **convolution))
            self.blocks.append(layers.MaxPooling2D(2, name=f"pool{number}"))
        self.flatten = layers.Flatten(name="flatten")
        self.dropout = layers.Dropout(hyperparameters["dropout"], name="dropout")
        self.dense = layers.Dense(hyperparameters["shared_units"], "relu", name="dense")
        classes = hyperparameters["answer"] == "classes"
        start = keras.initializers.Constant(0 if classes else 0.3)  # 30 years: alive
        self.answer = layers.Dense(
            len(AGES) if classes else 1,
            "softmax" if classes else hyperparameters["answer"],
            bias_initializer=start,
            name="age_classes" if classes else "age_hundreds",
            dtype="float32",
        )

    def call(self, inputs, training=False):
        """Compute the answer.

        Parameters
        ----------
        inputs : tensor or sequence of tensor
            Pictures ``(batch, height, width, channels)`` in [0, 1]; an informed network
            takes the gender label besides, ``(batch, 1)``, 0 to 1.
        training : bool
            Whether Dropout drops.

        Returns
        -------
        dict[str, tensor]
            ``age``, shape ``(batch, 1)``, years; with classes also ``age_classes``,
            shape ``(batch, 117)``.
        """
        x, *gender = inputs if self.settings["informed"] else [inputs]
        for layer in self.blocks:
            x = layer(x)
        x = self.dropout(self.flatten(x), training=training)
        for label in gender:
            x = keras.ops.concatenate([x, keras.ops.cast(label, x.dtype)], axis=-1)
        answer = self.answer(self.dropout(self.dense(x), training=training))
        if self.settings["answer"] != "classes":
            return {"age": 100 * answer}
        ages = keras.ops.reshape(keras.ops.cast(AGES, "float32"), (-1, 1))
        return {"age": keras.ops.matmul(answer, ages), "age_classes": answer}

    def inputs_of(self):
        """Make symbolic inputs, for building and exporting."""
        pictures = keras.Input(picture_shape(self.settings), name="image")
        if not self.settings["informed"]:
            return pictures
        return [pictures, keras.Input((1,), name="gender_label")]

    def as_functional(self):
        """Give the same network as a functional model, which needs no own code to load.

        Returns
        -------
        keras.Model
            Output ``age``.
        """
        inputs = self.inputs_of()
        return keras.Model(inputs, {"age": self.call(inputs)["age"]}, name=self.name)

    def train_by_tape(self, training, validation_data, epochs, callbacks, verbose=0):
        """Train by an own loop instead of ``fit``, with the same callbacks.

        Parameters
        ----------
        training, validation_data : keras.utils.PyDataset
            Batches of pictures and labels.
        epochs : int
        callbacks : list of keras.callbacks.Callback
        verbose : int
            Not used; a callback shows the progress.
        """

        @tf.function(reduce_retracing=True)
        def train_step(inputs, ages):
            with tf.GradientTape() as tape:
                loss, error = age_loss(self(inputs, training=True), ages)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return loss, error

        @tf.function(reduce_retracing=True)
        def test_step(inputs, ages):
            return age_loss(self(inputs, training=False), ages)

        callbacks = keras.callbacks.CallbackList(callbacks, model=self)
        self.stop_training, self._initial_epoch = False, 0
        callbacks.on_train_begin()  # BackupAndRestore may set the first epoch
        for epoch in range(self._initial_epoch, epochs):
            callbacks.on_epoch_begin(epoch)
            logs = run_epoch(train_step, training)
            found = run_epoch(test_step, validation_data)
            training.on_epoch_end()
            logs |= {f"val_{key}": value for key, value in found.items()}
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        callbacks.on_train_end()


def age_loss(outputs, ages):
    """Compute the loss of a batch: absolute error, or cross-entropy with classes.

    Parameters
    ----------
    outputs : dict[str, tensor]
        As ``AgeEstimator.call`` returns them.
    ages : tensor
        Years, shape ``(batch,)``.

    Returns
    -------
    tuple of tensor
        Mean loss (hundreds of years, or nats) and mean absolute error (years).
    """
    error = tf.reduce_mean(tf.abs(outputs["age"][:, 0] - ages))
    if "age_classes" not in outputs:
        return error / 100, error
    shares = outputs["age_classes"]
    own = tf.gather(shares, tf.cast(ages, tf.int32), axis=1, batch_dims=1)
    return -tf.reduce_mean(tf.math.log(own + 1e-7)), error


def run_epoch(step, batches):
    """Run one pass over the data and average what the steps return.

    Parameters
    ----------
    step : callable
        Takes the inputs and the ages of a batch, returns its loss and absolute error.
    batches : keras.utils.PyDataset

    Returns
    -------
    dict[str, float]
        ``loss`` and ``age_mae``, means over the pictures.
    """
    sums, count = np.zeros(2), 0
    for number in range(len(batches)):
        inputs, labels = batches[number]
        ages = tf.convert_to_tensor(labels["age"], tf.float32)
        found = step(tf.nest.map_structure(tf.convert_to_tensor, inputs), ages)
        sums += len(labels["age"]) * np.array([float(value) for value in found])
        count += len(labels["age"])
    return dict(zip(("loss", "age_mae"), sums / count, strict=True))


def build_age_estimator(hyperparameters):
    """Build an ``AgeEstimator`` with its weights.

    Parameters
    ----------
    hyperparameters : dict
        ``seed``, and as the class takes them.

    Returns
    -------
    AgeEstimator
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    model = AgeEstimator(hyperparameters)
    model(model.inputs_of())
    return model


NETWORKS["age estimator"] = build_age_estimator


def size_table(model):
    """List the sizes of the input, all feature maps and the output.

    Parameters
    ----------
    model : AgeEstimator

    Returns
    -------
    pandas.DataFrame
        One row per layer in the order of the call.
    """
    size = (1, *picture_shape(model.settings))
    rows = [("input", "", size[1:], 0)]
    for layer in [*model.blocks, model.flatten, model.dense, model.answer]:
        size = layer.compute_output_shape(size)
        rows.append((layer.name, type(layer).__name__, size[1:], layer.count_params()))
    table = pd.DataFrame(rows, columns=["Layer", "Kind", "Size", "Parameters"])
    sizes = table["Size"].map(lambda size: " × ".join(map(str, size)))
    return table.assign(Size=sizes, Parameters=table["Parameters"].map("{:,}".format))

# %%
with SKIPPABLE, chapter("D"):
    show_table(size_table(make_network(AGE_SUBCLASSED)))

# %% [markdown]
# ### The loop at work

# %%
with SKIPPABLE, chapter("D"):
    age_sets = {
        name: (colour["table"][colour["table"]["split"] == name], colour["folder"])
        for name in SPLITS
    }
    age_contexts, age_half = chapter_context(context, colour, age_sets)
    age_runs = {
        name: fit_or_load(name, runs_to_do[name], age_contexts["train"])
        for name in AGE_RUNS
    }
    show_figure(
        plot_models({name: run["history"] for name, run in age_runs.items()})
    )

# %% [markdown]
# ### ReLU or linear, a number or classes?
#
# **ReLU.** No age is negative, so an output that cannot be negative loses nothing; a linear one
# can answer with ages below zero, which are errors of a kind that the other never makes. Its price:
# where its input is negative it has no gradient, so a unit that starts out at zero for all pictures
# never learns. Both start from 30 years here.
#
# **Classes.** One class for each age turns the regression into a classification: for it, that a
# distribution can say "20 or 40" and is learned easily; against it, that its loss does not know that
# 30 is nearer to 31 than to 60, that rare ages have few pictures each, and that it needs a rule to
# come back to one number (here: the expected age).
#
# Validation; the differences are on its held-out half.

# %%
with SKIPPABLE, chapter("D"):
    age_views = {
        name: predict_sets(run, age_sets, age_contexts, ["val", "test"])
        for name, run in age_runs.items()
    }
    held_ages = {
        name: views["val"][age_half == "calibrate"] for name, views in age_views.items()
    }
    age_steps = {
        ("age_subclassed", name): compare(
            held_ages["age_subclassed"], held_ages[name], ["age_mae", "age_rmse"]
        )
        for name in ("age_linear", "age_classes")
    }
    rows = []
    for name in ("age_subclassed", "age_linear", "age_classes"):
        view, figures = age_views[name]["val"], evaluate(age_views[name]["val"])
        young = view[view["age"] <= 5]
        rows.append(
            {
                "Network": name,
                "Output": age_runs[name]["history"]["hyperparameters"]["answer"],
                METRIC_NAMES["age_mae"]: format_metric("age_mae", figures),
                METRIC_NAMES["age_rmse"]: format_metric("age_rmse", figures),
                "Answers below 0": int((view["age_predicted"] < 0).sum()),
                "MAE up to 5 years": f"{(young['age_predicted'] - young['age']).abs().mean():.2f}",
            }
        )
    show_table(pd.DataFrame(rows))

# %%
with SKIPPABLE, chapter("D"):
    told = "; ".join(
        f"{pair[1]} {describe_change('age_mae', step['age_mae'])}"
        for pair, step in age_steps.items()
    )
    answer(f"Against the ReLU output: {told}.")

# %% [markdown]
# ### Does it help to know the gender?
#
# One more network is told the gender label besides the picture. It learns with the true label; then
# it predicts twice: with the true label, and with the probability that the improved network of
# section 9 gives, which is all that anybody has for a new picture.

# %% tags=["functions"]
def predict_informed(run, table, guessed, context):
    """Predict ages with a network that is told a guessed gender.

    Parameters
    ----------
    run : dict
        As ``fit_or_load`` returns it, of an informed network.
    table : pandas.DataFrame
        Rows of one set.
    guessed : pandas.DataFrame
        As ``predict_table`` returns it, of the same pictures: ``gender_probability``.
    context : dict
        As for ``fit_or_load``.

    Returns
    -------
    pandas.DataFrame
        As ``predict_table`` returns it, with the true labels.
    """
    rows = table.loc[table.index.intersection(guessed.index)]
    told = rows.assign(gender=guessed.loc[rows.index, "gender_probability"])
    found = predict_or_load(run | {"told": "guessed"}, told, context)
    return found.assign(gender=rows["gender"])

# %%
with SKIPPABLE, chapter("D"):
    guesser = gender_runs["gender_improved"]
    informed = {"told the true label": age_views["age_informed"]}
    informed["told a guess"] = {
        name: predict_informed(
            age_runs["age_informed"],
            age_sets[name][0],
            predict_or_load(guesser, age_sets[name][0], gender_contexts[name]),
            age_contexts[name],
        )
        for name in ("val", "test")
    }
    views = {"told nothing": age_views["age_subclassed"]} | informed
    show_table(
        metrics_table(
            {name: evaluate(view["val"][age_half == "calibrate"]) for name, view in views.items()}
        )
    )

# %%
with SKIPPABLE, chapter("D"):
    told = "; ".join(
        f"{name}: "
        + describe_change(
            "age_mae",
            compare(
                held_ages["age_subclassed"],
                view["val"][age_half == "calibrate"],
                ["age_mae"],
            )["age_mae"],
        )
        for name, view in informed.items()
    )
    answer(f"Against the network that is told nothing, {told}.")
