# %% [markdown]
# <a id="gender"></a>
# ## 9 Gender recognition (assignment B)
#
# *What improves a small network, and does it know faces from elsewhere?* One task, colour pictures
# of 100×100 pixels. The networks learn from UTKFace's pictures, each in the set that the main
# assignment gave it, and are tested twice: on UTKFace's test pictures, and on a **foreign** set,
# class folders that other people collected. Who has class folders for training as well puts them
# into `data/gender/train` and `data/gender/test`.

# %% tags=["functions"]
UTKFACE_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d{17})")
CLASS_FOLDERS = {  # how data sets call the folders of the two labels
    "male": ("male", "males", "man", "men", "m"),
    "female": ("female", "females", "woman", "women", "f", "w"),
}


def find_broken(folder, names):
    """Find the pictures that cannot be decoded.

    Parameters
    ----------
    folder : pathlib.Path
    names : sequence of str
        Paths of the pictures, relative to the folder.

    Returns
    -------
    set of str
    """

    def decodes(name):
        try:
            with PIL.Image.open(folder / name) as picture:
                picture.draft("L", (25, 25))  # a JPEG is read whole, at an eighth
                picture.load()
            return True
        except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):
            return False

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return {name for name, good in zip(names, pool.map(decodes, names)) if not good}


def drop_broken(rows, faults, folder):
    """Make the tables of pictures and of faults, with broken pictures among the faults.

    Parameters
    ----------
    rows : pandas.DataFrame
        ``img_name`` relative to the folder.
    faults : list of tuple
        ``img_name`` and ``fault`` of what was left out already.
    folder : pathlib.Path

    Returns
    -------
    table, faults : pandas.DataFrame
        The rows that can be used; columns ``img_name``, ``fault``, ``row`` (0), as
        ``find_faults`` returns them.
    """
    broken = find_broken(folder, rows["img_name"])
    faults = faults + [(name, "broken picture") for name in sorted(broken)]
    faults = pd.DataFrame(faults, columns=["img_name", "fault"]).assign(row=0)
    good = rows[~rows["img_name"].isin(broken)]
    return good.sort_values("img_name", ignore_index=True), faults


def list_utkface(folder, known):
    """Read the labels of UTKFace off its file names, and the sets off its time stamps.

    Parameters
    ----------
    folder : pathlib.Path
        Holds ``<age>_<gender>_<ethnicity>_<time stamp>.jpg…``, in subfolders or not.
    known : pandas.Series
        As ``read_split_table`` returns it: a picture's set by the hash of its name in
        the main assignment, which is the time stamp.

    Returns
    -------
    table : pandas.DataFrame
        Columns ``img_name`` (relative to the folder), the labels, ``split`` and
        ``main_name``, the picture's name in the main assignment; sorted.
    faults : pandas.DataFrame
        As ``find_faults`` returns them.

    Raises
    ------
    ValueError
        If no picture can be used.
    """
    rows, faults = [], []
    for path in sorted(path for path in folder.rglob("[!.]*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        parts = UTKFACE_NAME.match(path.name)
        main_name = f"{parts[4]}.jpg.chip.jpg" if parts else ""
        if not name.lower().endswith(PICTURES):
            faults.append((name, "file that is not an image"))
        elif parts is None or int(parts[1]) > AGES[-1]:
            faults.append((name, "name that holds no labels"))
        elif (digest := hash_name(main_name)) not in known:
            faults.append((name, "time stamp that is not in the main assignment"))
        else:
            rows.append((name, *map(int, parts.groups()[:3]), known[digest], main_name))
    columns = ["img_name", *LABELS, "split", "main_name"]
    table, faults = drop_broken(pd.DataFrame(rows, columns=columns), faults, folder)
    if table.empty:
        raise ValueError(
            f"{folder} holds no usable picture named as UTKFace names them, such as "
            "25_0_2_20170116174525125.jpg.chip.jpg."
        )
    return table, faults


def list_class_folders(folder, split):
    """List pictures that lie in one folder for each gender label.

    Parameters
    ----------
    folder : pathlib.Path
        Holds two folders whose names ``CLASS_FOLDERS`` knows; others are left alone.
    split : str
        Name of the set that the pictures make.

    Returns
    -------
    table : pandas.DataFrame
        Columns ``img_name`` (relative to the folder), ``gender``, ``split``, and
        missing values for the other labels; sorted.
    faults : pandas.DataFrame
        As ``find_faults`` returns them.

    Raises
    ------
    ValueError
        If a label has no usable picture.
    """
    rows, faults = [], []
    for code, names in enumerate(CLASS_FOLDERS.values()):
        below = [path for path in folder.iterdir() if path.name.lower() in names]
        for path in (path for part in below for path in part.rglob("[!.]*")):
            name = path.relative_to(folder).as_posix()
            if name.lower().endswith(PICTURES):
                rows.append((name, code, split))
            elif path.is_file():
                faults.append((name, "file that is not an image"))
    table = pd.DataFrame(rows, columns=["img_name", "gender", "split"])
    table, faults = drop_broken(table, faults, folder)
    for code, names in enumerate(CLASS_FOLDERS.values()):
        if not (table["gender"] == code).any():
            raise ValueError(
                f"{folder} has no usable picture in a folder named {' or '.join(names)}."
            )
    return table.assign(age=np.nan, ethnicity=np.nan), faults


def has_class_folders(folder):
    """Tell whether a folder holds one folder for each gender label.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    bool
    """
    if not folder.is_dir():
        return False
    below = {path.name.lower() for path in folder.iterdir() if path.is_dir()}
    return all(below & set(names) for names in CLASS_FOLDERS.values())

# %% tags=["functions"]
def colour_pictures(data_dir, data, kind):
    """Choose the pictures that sections 9 to 11 learn from.

    Parameters
    ----------
    data_dir : pathlib.Path
        May hold ``UTKFace`` with the colour pictures.
    data : dict
        The main assignment's: ``table``, ``folder``, ``data_name``.
    kind : str
        As ``provide_data`` returns it; synthetic faces are used throughout.

    Returns
    -------
    dict
        ``table`` (``img_name``, labels, ``split``), ``folder``, ``data_name``,
        ``faults`` (as ``find_faults`` returns them) and ``sentence``.
    """
    folder = data_dir / "UTKFace"
    if folder.is_dir() and kind != "sample":
        table, faults = list_utkface(folder, read_split_table())
        sentence = f"UTKFace's {len(table):,} colour pictures in `{folder.as_posix()}`"
        found = {"table": table, "faults": faults, "folder": folder}
        return data | found | {"sentence": sentence}
    sentence = (
        f"the main assignment's {len(data['table']):,} grey pictures, enlarged: without "
        "colour, and without the detail that the larger size could show (UTKFace's own "
        f"pictures would go into `{folder.as_posix()}`)"
    )
    faults = pd.DataFrame(columns=["img_name", "fault", "row"])
    name = f"{data['data_name']}-enlarged"
    return data | {"faults": faults, "sentence": sentence, "data_name": name}


def load_gender_data(data_dir, colour):
    """Find the sets of assignment B.

    Parameters
    ----------
    data_dir : pathlib.Path
        ``gender/train`` and ``gender/test`` may hold class folders to learn from, any
        other of its folders those of the foreign set.
    colour : dict
        As ``colour_pictures`` returns it: what is learned from otherwise.

    Returns
    -------
    dict
        ``sets``: table and folder by set (``train``, ``val``, perhaps ``test`` and
        ``foreign_test``); ``data_name``, ``faults``, ``sentence``.
    """
    sets, faults = {}, [colour["faults"]]
    own = {"train": data_dir / "gender" / "train", "val": data_dir / "gender" / "test"}
    if all(map(has_class_folders, own.values())):
        faults = []
        for name, folder in own.items():
            table, odd = list_class_folders(folder, name)
            sets[name] = table, folder
            faults.append(odd)
        data_name = "own-" + digest_of(sorted(sets["train"][0]["img_name"]))
        sentence = "the class folders in `gender`"
    else:
        for name in SPLITS:
            rows = colour["table"]["split"] == name
            sets[name] = colour["table"][rows], colour["folder"]
        data_name, sentence = colour["data_name"], colour["sentence"]
    foreign = [path for path in sorted(data_dir.glob("*")) if has_class_folders(path)]
    for folder in foreign[:1]:
        table, odd = list_class_folders(folder, "foreign_test")
        sets["foreign_test"] = table, folder
        faults.append(odd)
        sentence += f"; the foreign set is `{folder.name}`"
    return {
        "sets": sets,
        "data_name": data_name,
        "faults": pd.concat(faults, ignore_index=True),
        "sentence": sentence if foreign else f"{sentence}; no foreign set was found",
    }


def chapter_context(context, data, sets):
    """Make what ``fit_or_load`` and ``predict_or_load`` need in a chapter.

    Parameters
    ----------
    context : dict
        Of the main assignment.
    data : dict
        ``data_name``, and the ``faults`` and ``sentence`` that are left out here.
    sets : dict[str, tuple]
        Table and folder by set, ``train`` and ``val`` among them.

    Returns
    -------
    contexts : dict[str, dict]
        By set.
    half : pandas.Series
        Of the rows of ``val``, as ``validation_part`` returns it.
    """
    (train, folder), (val, _) = sets["train"], sets["val"]
    half = validation_part(val["main_name" if "main_name" in val else "img_name"])
    tables = {"train": train, "select": val[half == "select"]}
    own = context | {"tables": tables, "data_name": data["data_name"], "folder": folder}
    return {name: own | {"folder": place} for name, (_, place) in sets.items()}, half


def predict_sets(run, sets, contexts, names=("val", "test", "foreign_test")):
    """Predict several sets by one run.

    Parameters
    ----------
    run : dict
        As ``fit_or_load`` returns it.
    sets : dict[str, tuple]
        Table and folder by set.
    contexts : dict[str, dict]
        As ``chapter_context`` returns them.
    names : sequence of str
        Those that are not there are left out.

    Returns
    -------
    dict[str, pandas.DataFrame]
        As ``predict_table`` returns them, by set.
    """
    return {
        name: predict_or_load(run, sets[name][0], contexts[name])
        for name in names
        if name in sets
    }


def gender_counts(sets):
    """Count the gender labels of each set.

    Parameters
    ----------
    sets : dict[str, tuple]
        Table and folder by set.

    Returns
    -------
    pandas.DataFrame
        One row per set.
    """
    rows = []
    for name, (table, _) in sets.items():
        counts = [int((table["gender"] == code).sum()) for code in range(len(GENDERS))]
        shares = [f"{n:,} ({100 * n / len(table):.1f} %)" for n in counts]
        row = {"Set": name.replace("_", " "), "Images": f"{len(table):,}"}
        rows.append(row | dict(zip(GENDERS, shares, strict=True)))
    return pd.DataFrame(rows)

# %%
with SKIPPABLE, chapter("B"):
    main_data = {"table": table, "folder": image_folder, "data_name": data_name}
    colour = colour_pictures(pathlib.Path(DATA_DIR), main_data, data_kind)
    gender = load_gender_data(pathlib.Path(DATA_DIR), colour)
    gender_contexts, gender_half = chapter_context(context, gender, gender["sets"])
    show_table(gender_counts(gender["sets"]))
    show_table(summarise_faults(gender["faults"]))
    answer(f"This chapter uses {gender['sentence']}.")

# %% [markdown]
# ### The baseline
#
# Exactly the figure of the assignment, row by row. (Its text gives the pools a stride of 1; only
# the figure's stride of 2 gives the figure's sizes.)

# %% tags=["functions"]
def build_baseline(hyperparameters):
    """Build assignment B's baseline, exactly as its figure gives it.

    Parameters
    ----------
    hyperparameters : dict
        ``seed``.

    Returns
    -------
    keras.Model
        Input ``(batch, 100, 100, 3)`` in [0, 1], output ``gender``; 544,593 parameters.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    x = inputs = keras.Input((100, 100, 3), name="image")
    for number in (1, 2):
        x = keras.layers.Conv2D(16, 3, activation="relu", name=f"conv{number}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool{number}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(64, activation="relu", name="dense")(x)
    x = keras.layers.Dense(1, activation="sigmoid", name="gender", dtype="float32")(x)
    return keras.Model(inputs, {"gender": x}, name="gender_baseline")


NETWORKS["gender baseline"] = build_baseline
BASELINE_FIGURE = (  # of the assignment: kind, output shape, parameters
    ("Conv2D", (98, 98, 16), 448),
    ("MaxPooling2D", (49, 49, 16), 0),
    ("Conv2D", (47, 47, 16), 2_320),
    ("MaxPooling2D", (23, 23, 16), 0),
    ("Flatten", (8_464,), 0),
    ("Dense", (64,), 541_760),
    ("Dense", (1,), 65),
)


def check_baseline(model):
    """Compare a model with the figure of assignment B, row by row.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    pandas.DataFrame
        One row per layer of the figure: what it asks for, and whether the model has it.
    """
    rows = []
    layers = model.layers[1:]
    for number, (kind, shape, count) in enumerate(BASELINE_FIGURE):
        own = layers[number] if number < len(layers) else None
        found = own and (type(own).__name__, own.output.shape[1:], own.count_params())
        rows.append(
            {
                "Layer": kind,
                "Output shape": " × ".join(map(str, shape)),
                "Parameters": f"{count:,}",
                "Built so": "yes" if found == (kind, shape, count) else f"NO: {found}",
            }
        )
    asked = sum(count for *_, count in BASELINE_FIGURE)
    whole = model.count_params() == asked and len(layers) == len(BASELINE_FIGURE)
    rows.append(
        {
            "Layer": "Total",
            "Output shape": "",
            "Parameters": f"{asked:,}",
            "Built so": "yes" if whole else f"NO: {model.count_params():,}",
        }
    )
    return pd.DataFrame(rows)


def plot_gender(views):
    """Plot the ROC curves of several sets, and the confusion matrix of each.

    Parameters
    ----------
    views : dict[str, pandas.DataFrame]
        As ``predict_table`` returns them, by set.

    Returns
    -------
    matplotlib.figure.Figure
    """
    shape = {"figsize": (3.2 * (1 + len(views)), 3.1), "layout": "constrained"}
    figure, axes = plt.subplots(1, 1 + len(views), **shape)
    axes[0].set_prop_cycle(color=[SET_COLOURS[name] for name in views])
    curves = {
        name.replace("_", " "): (view["gender"], view["gender_probability"])
        for name, view in views.items()
    }
    draw_roc(axes[0], curves)
    axes[0].set_title("ROC of the label female")
    for axis, (name, view) in zip(axes[1:], views.items(), strict=True):
        guess = (view["gender_probability"] >= 0.5).astype(int)
        draw_confusion(axis, view["gender"], guess, GENDERS)
        axis.set_title(name.replace("_", " ").capitalize())
    return figure


SET_COLOURS = SPLIT_COLOURS | {"foreign_test": "black"}

# %%
with SKIPPABLE, chapter("B"):
    show_table(check_baseline(make_network(GENDER_BASELINE)))

# %%
with SKIPPABLE, chapter("B"):
    gender_runs = {
        "gender_baseline": fit_or_load(
            "gender_baseline", runs_to_do["gender_baseline"], gender_contexts["train"]
        )
    }
    show_figure(plot_curves(gender_runs["gender_baseline"]["history"]))

# %% [markdown]
# Validation is shown whole here and below; half of it chose the epoch.

# %%
with SKIPPABLE, chapter("B"):
    gender_views = {
        "gender_baseline": predict_sets(
            gender_runs["gender_baseline"], gender["sets"], gender_contexts
        )
    }
    show_figure(plot_gender(gender_views["gender_baseline"]))

# %%
with SKIPPABLE, chapter("B"):
    baseline_figures = {
        name.replace("_", " "): evaluate(view)
        for name, view in gender_views["gender_baseline"].items()
    }
    show_table(metrics_table(baseline_figures))

# %% [markdown]
# ### Seven experiments
#
# On a third of the training pictures, to be quick. Each changes one thing in the one named before;
# the selection half of validation says what is kept, the held-out half how sure that is.

# %%
with SKIPPABLE, chapter("B"):
    trials = {
        name: fit_or_load(name, runs_to_do[name], gender_contexts["train"])
        for name in GENDER_TRIALS
    }
    trial_val = {
        name: predict_sets(run, gender["sets"], gender_contexts, ["val"])["val"]
        for name, run in trials.items()
    }
    held_trials = {
        name: val[gender_half == "calibrate"] for name, val in trial_val.items()
    }
    trial_rows = []
    for name, former in GENDER_TRIALS.items():
        own = trials[name]["history"]
        change, shown = "the baseline", ""
        if former:
            settings_before = trials[former]["history"]["hyperparameters"]
            change = describe_step(settings_before, own["hyperparameters"])
            step = compare(held_trials[former], held_trials[name], ["gender_accuracy"])
            shown = describe_change("gender_accuracy", step["gender_accuracy"])
        figures = evaluate(trial_val[name][gender_half == "select"])
        trial_rows.append(
            {
                "Run": name.removeprefix("gender_"),
                "Changes": f"{former or ''}: {change}".removeprefix("gender_"),
                "Selection half: accuracy (%)": format_metric("gender_accuracy", figures),
                "Held-out half": shown,
                "Parameters": f"{own['parameters']:,}",
                "Training": duration(own["seconds"]),
            }
        )
    show_table(pd.DataFrame(trial_rows))

# %% [markdown]
# ### The improved model
#
# What the experiments kept, with two convolutions in the third and fourth block, on all training
# pictures.

# %%
with SKIPPABLE, chapter("B"):
    gender_runs["gender_improved"] = fit_or_load(
        "gender_improved", runs_to_do["gender_improved"], gender_contexts["train"]
    )
    show_table(layer_table(make_network(runs_to_do["gender_improved"])))
    show_figure(plot_curves(gender_runs["gender_improved"]["history"]))

# %%
with SKIPPABLE, chapter("B"):
    gender_views["gender_improved"] = predict_sets(
        gender_runs["gender_improved"], gender["sets"], gender_contexts
    )
    show_figure(plot_gender(gender_views["gender_improved"]))

# %% [markdown]
# ### Transfer: features of networks that learned something else
#
# A frozen network turns each picture and its mirror image into features, once; they are kept, and a
# new head with one hidden layer learns from them. `VGG16` learned ImageNet's thousand classes
# (Simonyan & Zisserman 2015). The trunk of the main network learned age, gender and ethnicity from
# 48×48 grey levels of the same training people: it transfers to no new task, but to other pictures.

# %% tags=["functions"]
PRETRAINED_FILES = {
    "VGG16": "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "ResNet50": "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
}


def load_pretrained(name, size):
    """Load a network of ``keras.applications`` without its classifier.

    Parameters
    ----------
    name : str
        A key of ``PRETRAINED_FILES``.
    size : int
        Side of the pictures in pixels.

    Returns
    -------
    keras.Model
        From pictures in [0, 1] to feature maps. The weights come from the folder
        ``IMAGENET``, or are downloaded once into ``~/.keras/models``.

    Raises
    ------
    RuntimeError
        If the weights cannot be had; the message says what to do.
    """
    file = PRETRAINED_FILES[name]
    local = pathlib.Path(IMAGENET) / file
    weights = str(local) if IMAGENET and local.exists() else "imagenet"
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # seconds: no endless wait where nothing answers
    try:
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            network = getattr(keras.applications, name)(
                include_top=False, weights=weights, input_shape=(size, size, 3)
            )
    except Exception as why:  # get_file raises a plain Exception
        raise RuntimeError(
            f"the ImageNet weights of {name} cannot be had here; where there is a "
            f"network they are fetched once; else set IMAGENET to a folder with {file}"
        ) from why
    finally:
        socket.setdefaulttimeout(before)
    inputs = keras.Input((size, size, 3), name="image")
    levels = keras.layers.Conv2D(3, 1, trainable=False, name="imagenet_levels")
    x = levels(inputs)  # to blue, green, red from 0 to 255, less ImageNet's means
    turned = 255 * np.eye(3)[::-1].reshape(1, 1, 3, 3)
    levels.set_weights([turned, -np.array([103.939, 116.779, 123.68])])
    return keras.Model(inputs, network(x, training=False), name=name.lower())


def build_frozen(features, runs):
    """Build the frozen network whose features a run learns from.

    Parameters
    ----------
    features : str
        ``"VGG16"``, or the name of a run whose trunk is taken.
    runs : dict[str, dict]
        As ``fit_or_load`` returns them, by name.

    Returns
    -------
    keras.Model
        From pictures in [0, 1] to features ``(batch, n)``: VGG16's last feature maps
        averaged over the places, or the trunk's ``Dense`` layer.
    """
    if features in PRETRAINED_FILES:
        network = load_pretrained(features, 100)
        x = keras.layers.GlobalAveragePooling2D(name="features")(network.output)
    else:
        network = load_network(runs[features])
        x = network.get_layer("shared_dense").output
    frozen = keras.Model(network.input, x, name=f"{features.lower()}_features")
    frozen.trainable = False
    return frozen


def read_features(frozen, table, folder, path):
    """Compute the features of pictures and of their mirror images, and keep them.

    Parameters
    ----------
    frozen : keras.Model
        As ``build_frozen`` returns it.
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Pictures.
    path : pathlib.Path
        Keeps the features as float16, ``.npz``; where it has those of the table's
        pictures already, nothing is done.
    """
    names = table["img_name"].map(hash_name).tolist()
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            if file["names"].tolist() == names:
                return
    flow = make_flow(make_datagen(), table, folder, shape=frozen.input_shape[1:])
    order = {name: row for row, name in enumerate(flow.filenames)}
    rows = [order[name] for name in table["img_name"]]
    views = (LabelledBatches(flow), LabelledBatches(flow, mirrored=True))
    values = np.stack([frozen.predict(view, verbose=0)[rows] for view in views])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, names=names, values=values.astype("float16"))


class FeatureBatches(keras.utils.PyDataset):
    """Batches of features with their labels, in place of pictures.

    Parameters
    ----------
    features : numpy.ndarray
        Shape ``(2, n, count)``: of the pictures, and of their mirror images.
    table : pandas.DataFrame
        The same pictures, with labels.
    hyperparameters : dict
        ``tasks``, ``batch_size``, ``seed``.
    training : bool
        Whether to shuffle, and to take either view of a picture by chance.
    """

    def __init__(self, features, table, hyperparameters, training):
        super().__init__()
        self.features, self.training = features, training
        self.batch_size = hyperparameters["batch_size"]
        tasks = hyperparameters["tasks"]
        self.labels = {task: table[task].to_numpy("float32") for task in tasks}
        self.generator = np.random.default_rng(hyperparameters["seed"])
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


def read_feature_batches(table, folder, hyperparameters, training):
    """Make batches of features that ``read_features`` has kept.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Holds ``<set>.npz``.
    hyperparameters : dict
        As for ``FeatureBatches``.
    training : bool

    Returns
    -------
    FeatureBatches
    """
    (split,) = table["split"].unique()
    with np.load(folder / f"{split}.npz", allow_pickle=False) as file:
        place = pd.Series(range(len(file["names"])), index=file["names"])
        values = file["values"][:, place[table["img_name"].map(hash_name)]]
    return FeatureBatches(values.astype("float32"), table, hyperparameters, training)


def build_feature_head(hyperparameters):
    """Build the new head of a frozen network.

    Parameters
    ----------
    hyperparameters : dict
        ``feature_count``, ``dropout``, ``tasks``, ``seed``, and as for ``build_head``.

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


def learn_from_features(name, hyperparameters, sets, contexts, runs):
    """Train a new head on the features of a frozen network, or load it.

    Parameters
    ----------
    name : str
    hyperparameters : dict
        ``features`` names the frozen network, see ``build_frozen``.
    sets : dict[str, tuple]
        Table and folder by set.
    contexts : dict[str, dict]
        As ``chapter_context`` returns them.
    runs : dict[str, dict]
        As for ``build_frozen``.

    Returns
    -------
    dict
        As ``fit_or_load`` returns it; its weights are those of both, from pictures on.
    """
    context = contexts["train"]
    where = context["data_name"], context["model_dir"], context["shipped"]
    own, finished = find_run(name, hyperparameters, *where)
    if finished is None:
        frozen = build_frozen(hyperparameters["features"], runs)
        kept = of_run(own, ".features")
        for part in ("train", "val"):
            read_features(frozen, *sets[part], kept / f"{part}.npz")
        context = context | {"folder": kept}
    run = fit_or_load(name, hyperparameters, context)
    weights = of_run(run["stem"], ".keras")
    if run["trained_here"]:
        head = load_network(run)
        whole = keras.Model(frozen.input, head(frozen.output), name=frozen.name)
        whole.save(weights)
        shutil.rmtree(kept)
    return run

# %%
with SKIPPABLE, chapter("B: gender_mtl_transfer"):
    gender_runs["gender_mtl_transfer"] = learn_from_features(
        "gender_mtl_transfer",
        runs_to_do["gender_mtl_transfer"],
        gender["sets"],
        gender_contexts,
        {"mtl": main},
    )

# %%
with SKIPPABLE, chapter("B: gender_vgg16"):
    gender_runs["gender_vgg16"] = learn_from_features(
        "gender_vgg16",
        runs_to_do["gender_vgg16"],
        gender["sets"],
        gender_contexts,
        {},
    )

# %%
with SKIPPABLE, chapter("B"):
    for name in set(gender_runs) - set(gender_views):
        gender_views[name] = predict_sets(
            gender_runs[name], gender["sets"], gender_contexts
        )
        show_figure(plot_curves(gender_runs[name]["history"]))
        show_figure(plot_gender(gender_views[name]))

# %% [markdown]
# ### Which one is best, and does it hold elsewhere?
#
# Accuracy on the held-out half of validation, on UTKFace's test pictures and on the foreign set. The
# drop to the last is what a data set's own test pictures do not tell.

# %% tags=["functions"]
def plot_drop(figures, metric):
    """Plot a metric of several models on several sets, with its intervals.

    Parameters
    ----------
    figures : dict[str, dict[str, dict]]
        As ``evaluate`` returns them, by model and set.
    metric : str
        A share.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    sets = list(next(iter(figures.values())))
    for number, name in enumerate(sets):
        values = np.array([100 * views[name][metric] for views in figures.values()])
        ends = np.array([views[name][f"{metric}_ci95"] for views in figures.values()])
        places = np.arange(len(figures)) + 0.2 * (number - (len(sets) - 1) / 2)
        style = {"fmt": "o", "capsize": 3, "color": SET_COLOURS[name]}
        label = name.replace("_", " ")
        axes.errorbar(places, values, np.abs(100 * ends.T - values), label=label, **style)
    axes.set_xticks(range(len(figures)), figures)
    axes.set_ylabel(METRIC_NAMES[metric])
    axes.legend(frameon=False)
    return figure

# %%
with SKIPPABLE, chapter("B"):
    held_views = {
        model: views | {"val": views["val"][gender_half == "calibrate"]}
        for model, views in gender_views.items()
    }
    gender_figures = {
        model: {name: evaluate(view) for name, view in views.items()}
        for model, views in held_views.items()
    }
    show_figure(plot_drop(gender_figures, "gender_accuracy"))

# %%
with SKIPPABLE, chapter("B"):
    furthest = list(held_views["gender_improved"])[-1]
    against = {
        (name, "gender_improved"): compare(
            held_views[name][furthest],
            held_views["gender_improved"][furthest],
            ["gender_accuracy", "gender_auc"],
        )
        for name in held_views
        if name != "gender_improved"
    }
    show_table(
        metrics_table({name: views[furthest] for name, views in gender_figures.items()})
    )

# %%
with SKIPPABLE, chapter("B"):
    told = "; ".join(
        f"against {pair[0]} {describe_change('gender_accuracy', step['gender_accuracy'])}"
        for pair, step in against.items()
    )
    drops = "; ".join(
        f"{name} {describe_change('gender_accuracy', drop['gender_accuracy'])}"
        for name, views in held_views.items()
        for drop in [compare_apart(views["val"], views[furthest], ["gender_accuracy"])]
    )
    answer(
        f"On the {furthest.replace('_', ' ')} pictures the improved model is: {told}. "
        f"From validation to them: {drops}."
    )

# %% [markdown]
# ### Against the literature
#
# | Paper | Pictures | Method | Gender accuracy there |
# |---|---|---|---|
# | Levi & Hassner, CVPRW 2015 | Adience: web photos as they come, aligned, 227×227 colour crops | convolutional network of three convolutions and two hidden layers, from scratch, with Dropout | 86.8 % ± 1.4, five-fold |
# | Yaman et al., CVPRW 2019 | profile faces and ears | VGG-16 and ResNet-50 fine-tuned, fused | other pictures: not comparable |
# | Yang et al., ICPR 2006 | aligned grey faces | normalised textures; SVM, LDA and boosting compared | |
# | Xu et al., ICPR 2008 | frontal faces | shape and appearance features together, SVM | |
#
# Figures of other data sets compare with ours only roughly: other pictures, other people, other
# labels, and mostly a test within the same data set, which the drop above shows to flatter.
