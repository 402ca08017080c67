# %% [markdown]
# ### Transfer: features of networks that learned something else
#
# A frozen network turns each picture into features, once; a new head with one hidden layer learns
# from them. `VGG16` learned ImageNet's thousand classes (Simonyan & Zisserman 2015); the trunk of
# the main network learned age, gender and ethnicity from 48×48 grey levels of the same training
# people. It has seen gender labels: its transfer is to colour pictures enlarged from other
# sizes and to faces from elsewhere, not to a new task.

# %% tags=["functions"]
def build_vgg16(weights="imagenet"):
    """Build the frozen VGG16, from pictures in [0, 1] to features.

    Parameters
    ----------
    weights : str or None
        As for ``load_pretrained``.

    Returns
    -------
    keras.Model
        Input ``(batch, 100, 100, 3)`` in [0, 1], output ``(batch, 512)``: the last
        feature maps, averaged over the places.
    """
    inputs = keras.Input((100, 100, 3), name="image")
    bgr = keras.layers.Conv2D(3, 1, name="vgg16_levels")  # as VGG16 was trained
    x = bgr(inputs)
    bgr.set_weights(
        [
            255 * np.eye(3)[::-1].reshape(1, 1, 3, 3),
            -np.array([103.939, 116.779, 123.68]),  # ImageNet's means: blue, green, red
        ]
    )
    x = load_pretrained("VGG16", 100, weights)(x)
    x = keras.layers.GlobalAveragePooling2D(name="vgg16_mean")(x)
    model = keras.Model(inputs, x, name="vgg16")
    model.trainable = False
    return model


def build_frozen(name, context):
    """Build the frozen network whose features a run learns from.

    Parameters
    ----------
    name : str
        ``"VGG16"``, or the name of a run whose trunk is taken.
    context : dict
        As for ``fit_or_load``, and ``runs``: finished runs by name; ``imagenet``: as
        ``weights`` of ``load_pretrained``.

    Returns
    -------
    keras.Model
        From pictures in [0, 1] to features ``(batch, n)``.
    """
    if name == "VGG16":
        return build_vgg16(context["imagenet"])
    whole = load_network(context["runs"][name])
    trunk = keras.Model(whole.input, whole.get_layer("shared_dense").output, name=name)
    trunk.trainable = False
    return trunk


def read_features(frozen, table, folder, path):
    """Compute the features of pictures and of their mirror images, or load them.

    Parameters
    ----------
    frozen : keras.Model
        As ``build_frozen`` returns it.
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Pictures.
    path : pathlib.Path
        Keeps the features as float16, ``.npz``.

    Returns
    -------
    numpy.ndarray
        float32, shape ``(2, n, features)``, in the table's order: as it is, mirrored.
    """
    names = [hash_name(name) for name in table["img_name"]]
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            if file["names"].tolist() == names:
                return file["values"].astype("float32")
    flow = make_flow(make_datagen(), table, folder, shape=frozen.input_shape[1:])
    order = {name: row for row, name in enumerate(flow.filenames)}
    rows = [order[name] for name in table["img_name"]]
    views = (LabelledBatches(flow), MirroredBatches(flow))
    values = np.stack([frozen.predict(view, verbose=0)[rows] for view in views])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, names=names, values=values.astype("float16"))
    return values


class FeatureBatches(keras.utils.PyDataset):
    """Batches of features with their labels, in place of pictures.

    Parameters
    ----------
    features : numpy.ndarray
        As ``read_features`` returns them.
    table : pandas.DataFrame
        The same rows, with labels.
    tasks : sequence of str
        Which labels.
    batch_size : int
    training : bool
        Whether to shuffle, and to take either view of a picture by chance.
    seed : int
    """

    def __init__(self, features, table, tasks, batch_size, training, seed):
        super().__init__()
        self.features, self.training, self.batch_size = features, training, batch_size
        self.labels = {task: table[task].to_numpy("float32") for task in tasks}
        self.generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return -(-self.features.shape[1] // self.batch_size)

    def __getitem__(self, index):
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows, views = self.rows[part], self.views[part]
        labels = {task: values[rows] for task, values in self.labels.items()}
        return self.features[views, rows], labels

    def on_epoch_end(self):
        """Shuffle anew and choose the views of the next epoch, if training."""
        count = self.features.shape[1]
        self.rows, self.views = np.arange(count), np.zeros(count, int)
        if self.training:
            self.generator.shuffle(self.rows)
            self.views = self.generator.integers(0, 2, count)


def build_feature_head(hyperparameters):
    """Build the new head of a frozen network.

    Parameters
    ----------
    hyperparameters : dict
        ``feature_count``, ``head_units``, ``dropout``, ``tasks`` and ``seed``.

    Returns
    -------
    keras.Model
        Input: features ``(batch, feature_count)``; outputs as ``build_head`` has them.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    inputs = keras.Input((hyperparameters["feature_count"],), name="features")
    x = keras.layers.Dropout(hyperparameters["dropout"], name="features_dropout")(inputs)
    outputs = {}
    for task in hyperparameters["tasks"]:
        outputs |= build_head(x, task, hyperparameters)
    return keras.Model(inputs, outputs, name="feature_head")


NETWORKS["feature head"] = build_feature_head


def join_networks(frozen, head):
    """Put a head on its frozen network: from pictures to answers.

    Parameters
    ----------
    frozen, head : keras.Model

    Returns
    -------
    keras.Model
    """
    return keras.Model(frozen.input, head(frozen.output), name=f"{frozen.name}_{head.name}")


def read_feature_batches(table, folder, hyperparameters, training):
    """Make batches of features that ``read_features`` has kept.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Holds ``<set>.npz``.
    hyperparameters : dict
        ``tasks``, ``batch_size``, ``seed``.
    training : bool

    Returns
    -------
    FeatureBatches
    """
    (split,) = table["split"].unique()
    with np.load(folder / f"{split}.npz", allow_pickle=False) as file:
        place = pd.Series(range(len(file["names"])), index=file["names"])
        values = file["values"][:, place[table["img_name"].map(hash_name)]]
    return FeatureBatches(
        values.astype("float32"),
        table,
        hyperparameters["tasks"],
        hyperparameters["batch_size"],
        training,
        hyperparameters["seed"],
    )
