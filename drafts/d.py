# %% tags=["functions"]
class AgeEstimator(keras.Model):
    """A network that reads the age, as a class of its own (assignment D).

    Parameters
    ----------
    hyperparameters : dict
        ``filters`` (one entry per block: convolution, convolution, pooling),
        ``head_units``, ``dropout``, and ``answer``: ``"relu"`` or ``"linear"`` (years),
        or ``"classes"`` (one class per age; the expected age is the answer);
        ``gender``: whether a second input, the probability of the label female,
        joins the features.
    """

    def __init__(self, hyperparameters, **options):
        super().__init__(name="age_estimator", **options)
        self.hyperparameters = hyperparameters
        layers = keras.layers
        self.blocks = []
        for number, filters in enumerate(hyperparameters["filters"], start=1):
            for part in "ab":
                name = f"conv{number}{part}"
                self.blocks.append(
                    layers.Conv2D(
                        filters,
                        3,
                        padding="same",
                        activation="relu",
                        kernel_initializer="he_normal",
                        name=name,
                    )
                )
            self.blocks.append(layers.MaxPooling2D(2, name=f"pool{number}"))
        self.flatten = layers.Flatten(name="flatten")
        self.dropout = layers.Dropout(hyperparameters["dropout"], name="dropout")
        self.dense = layers.Dense(hyperparameters["head_units"], "relu", name="dense")
        classes = hyperparameters["answer"] == "classes"
        self.answer = layers.Dense(
            len(AGES) if classes else 1,
            "softmax" if classes else hyperparameters["answer"],
            name="age_classes" if classes else "age_hundreds",
            dtype="float32",
        )

    def call(self, inputs, training=False):
        """Compute the answer.

        Parameters
        ----------
        inputs : tensor or tuple of tensor
            Pictures ``(batch, size, size, channels)`` in [0, 1]; with ``gender`` also
            the probability of the label female, ``(batch, 1)``.
        training : bool
            Whether Dropout drops.

        Returns
        -------
        dict[str, tensor]
            ``age``, shape ``(batch, 1)``, years; with classes also ``age_classes``,
            shape ``(batch, 117)``.
        """
        pictures, gender = inputs if self.hyperparameters["gender"] else (inputs, None)
        for layer in self.blocks:
            pictures = layer(pictures)
        features = self.dropout(self.flatten(pictures), training=training)
        if gender is not None:
            gender = keras.ops.cast(gender, features.dtype)
            features = keras.ops.concatenate([features, gender], axis=-1)
        answer = self.answer(self.dropout(self.dense(features), training=training))
        if self.hyperparameters["answer"] != "classes":
            return {"age": 100 * answer}
        ages = keras.ops.reshape(keras.ops.cast(AGES, "float32"), (-1, 1))
        return {"age": keras.ops.matmul(answer, ages), "age_classes": answer}


def train_by_tape(model, training, validation, epochs, callbacks):
    """Train by an own loop instead of ``fit``, with the same callbacks.

    Parameters
    ----------
    model : AgeEstimator
        Compiled: its optimizer is used.
    training, validation : keras.utils.PyDataset
        Batches of pictures and labels.
    epochs : int
    callbacks : list of keras.callbacks.Callback
        As for ``fit``.
    """
    @tf.function
    def train_step(pictures, ages):
        with tf.GradientTape() as tape:
            loss, error = age_loss(model, pictures, ages, training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss, error

    @tf.function
    def test_step(pictures, ages):
        return age_loss(model, pictures, ages, training=False)

    callbacks = keras.callbacks.CallbackList(callbacks, model=model)
    model.stop_training = False
    callbacks.on_train_begin()
    for epoch in range(model._initial_epoch or 0, epochs):
        callbacks.on_epoch_begin(epoch)
        logs = run_epoch(train_step, training)
        found = run_epoch(test_step, validation)
        training.on_epoch_end()
        logs |= {f"val_{key}": value for key, value in found.items()}
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callbacks.on_train_end()


def age_loss(model, pictures, ages, training):
    """Compute the loss of a batch: the absolute error, or cross-entropy with classes.

    Parameters
    ----------
    model : AgeEstimator
    pictures : tensor or tuple of tensor
        As ``AgeEstimator.call`` takes them.
    ages : tensor
        Years, shape ``(batch,)``.
    training : bool

    Returns
    -------
    tuple of tensor
        Mean loss (years, or nats), mean absolute error (years).
    """
    outputs = model(pictures, training=training)
    error = tf.reduce_mean(tf.abs(outputs["age"][:, 0] - ages))
    if "age_classes" not in outputs:
        return error, error
    classes = tf.cast(ages, tf.int32)
    own = tf.gather(outputs["age_classes"], classes, batch_dims=1)
    return -tf.reduce_mean(tf.math.log(own + 1e-7)), error


def run_epoch(step, batches):
    """Run one pass over the data and average what the steps return.

    Parameters
    ----------
    step : callable
        Takes pictures and ages, returns the loss and the absolute error.
    batches : keras.utils.PyDataset

    Returns
    -------
    dict[str, float]
        ``loss`` and ``age_mae``, means over the pictures.
    """
    sums, count = np.zeros(2), 0
    for number in range(len(batches)):
        pictures, labels = batches[number]
        ages = tf.convert_to_tensor(labels["age"], tf.float32)
        sums += len(ages) * np.array([float(value) for value in step(pictures, ages)])
        count += len(ages)
    return dict(zip(("loss", "age_mae"), sums / count, strict=True))


def size_table(model, shape):
    """List the sizes of the input, all feature maps and the output.

    Parameters
    ----------
    model : AgeEstimator
    shape : tuple of int
        Of one picture: side, side, channels.

    Returns
    -------
    pandas.DataFrame
        One row per layer in the order of the call.
    """
    rows = [("input", "", shape, 0)]
    size = (1, *shape)
    for layer in [*model.blocks, model.flatten, model.dense, model.answer]:
        size = layer.compute_output_shape(size)
        rows.append((layer.name, type(layer).__name__, size[1:], layer.count_params()))
    table = pd.DataFrame(rows, columns=["Layer", "Kind", "Size", "Parameters"])
    sizes = table["Size"].map(lambda size: " × ".join(map(str, size)))
    return table.assign(Size=sizes, Parameters=table["Parameters"].map("{:,}".format))
