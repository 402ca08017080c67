# %% [markdown]
# <a id="branches"></a>
# ## 10 Age and gender in two branches (assignment C)
#
# *Does a pretrained network beat an own one?* 4,000 of UTKFace's training pictures and 1,000 of its
# validation pictures, 128×128 in colour; the same 5,000 for every run, drawn by `SEED`. Model A is the
# assignment's small network, model B a `ResNet50` with ImageNet's weights, fine-tuned. The
# assignment's 1,000 pictures for validation choose the epoch and compare the trials, so what they say
# is flattered; UTKFace's test pictures, none of them in the subset, say how good it is.

# %% tags=["functions"]
def draw_subset(table, sizes, seed=SEED):
    """Draw a subset of pictures of each set.

    Parameters
    ----------
    table : pandas.DataFrame
        Column ``split``.
    sizes : dict[str, int]
        Pictures by set; a set that has fewer is taken whole.
    seed : int

    Returns
    -------
    dict[str, pandas.DataFrame]
        By set, in the table's order.
    """
    drawn = {}
    for name, size in sizes.items():
        rows = table[table["split"] == name]
        size = min(size, len(rows))
        drawn[name] = rows.sample(size, random_state=seed).sort_index()
    return drawn


def dense_branch(features, task, hyperparameters):
    """Stack the dense layers of one branch of assignment C.

    Parameters
    ----------
    features : keras.KerasTensor
        Shape ``(batch, n)``.
    task : str
        ``"age"`` or ``"gender"``.
    hyperparameters : dict
        ``head_units`` (one entry per layer) and ``dropout`` after each layer.

    Returns
    -------
    keras.KerasTensor
        Shape ``(batch, 1)``: years, or the probability of the label female.
    """
    for number, units in enumerate(hyperparameters["head_units"], start=1):
        name = f"{task}_dense{number}"
        features = keras.layers.Dense(units, "relu", name=name)(features)
        rate = hyperparameters["dropout"]
        features = keras.layers.Dropout(rate, name=f"{name}_dropout")(features)
    options = {"name": task, "dtype": "float32"}
    if task == "gender":
        return keras.layers.Dense(1, "sigmoid", **options)(features)
    start = keras.initializers.Constant(30)  # years, about the mean: no long way there
    return keras.layers.Dense(1, bias_initializer=start, **options)(features)


def build_two_branches(hyperparameters):
    """Build model A of assignment C: a short trunk, one branch for each task.

    Parameters
    ----------
    hyperparameters : dict
        ``filters``: of the trunk's three convolutions and of a branch's three;
        ``shape``, ``tasks``, ``seed``, and as for ``dense_branch``.

    Returns
    -------
    keras.Model
        Input ``(batch, 128, 128, 3)`` in [0, 1], outputs ``age`` (years) and ``gender``.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    layers, filters = keras.layers, hyperparameters["filters"]

    def convolution(x, place, name):
        options = {"padding": "same", "activation": "relu", "name": name}
        return layers.Conv2D(filters[place], 3, **options)(x)

    inputs = keras.Input(picture_shape(hyperparameters), name="image")
    x = convolution(inputs, 0, "shared_conv1")
    x = layers.MaxPooling2D(2, name="shared_pool1")(convolution(x, 1, "shared_conv2"))
    x = layers.BatchNormalization(name="shared_norm")(x)
    x = layers.MaxPooling2D(2, name="shared_pool2")(convolution(x, 2, "shared_conv3"))
    outputs = {}
    for task in hyperparameters["tasks"]:
        y = x
        for number in (1, 2):
            y = convolution(y, 2 + number, f"{task}_conv{number}")
            y = layers.MaxPooling2D(2, name=f"{task}_pool{number}")(y)
            y = layers.BatchNormalization(name=f"{task}_norm{number}")(y)
        y = layers.Flatten(name=f"{task}_flatten")(convolution(y, 5, f"{task}_conv3"))
        outputs[task] = dense_branch(y, task, hyperparameters)
    return keras.Model(inputs, outputs, name="two_branches")


def build_fine_tuned(hyperparameters):
    """Build model B of assignment C: ``ResNet50``, trained on, with two new branches.

    Parameters
    ----------
    hyperparameters : dict
        ``shape``, ``tasks``, ``seed``, and as for ``dense_branch``.

    Returns
    -------
    keras.Model
        As ``build_two_branches`` returns it. Batch normalisation keeps ImageNet's
        statistics.

    Raises
    ------
    RuntimeError
        If the weights cannot be had, see ``load_pretrained``.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    network = load_pretrained("ResNet50", picture_shape(hyperparameters)[0])
    outputs = {}
    for task in hyperparameters["tasks"]:
        x = keras.layers.Flatten(name=f"{task}_flatten")(network.output)
        outputs[task] = dense_branch(x, task, hyperparameters)
    return keras.Model(network.input, outputs, name="resnet50_two_branches")


NETWORKS |= {"two branches": build_two_branches, "resnet50": build_fine_tuned}


def save_h5(model, path):
    """Save a model as ``.h5``, as the assignment asks.

    Parameters
    ----------
    model : keras.Model
    path : pathlib.Path
    """
    level = logging.getLogger("absl").level
    logging.getLogger("absl").setLevel(logging.ERROR)  # it calls the format old
    try:
        model.save(path)
    finally:
        logging.getLogger("absl").setLevel(level)


def plot_models(histories):
    """Plot the curves of several runs over one another, one panel for each task.

    Parameters
    ----------
    histories : dict[str, dict]
        As ``fit_or_load`` keeps them, by name.

    Returns
    -------
    matplotlib.figure.Figure
    """
    first = next(iter(histories.values()))["epochs"]
    curves = {key: curve for key, curve in CURVES.items() if key in first}
    shape = {"figsize": (4.5 * len(curves), 3), "layout": "constrained"}
    figure, axes = plt.subplots(1, len(curves), **shape)
    for axis, (key, (title, unit, _)) in zip(axes, curves.items(), strict=True):
        factor = 100 if "%" in unit else 1
        for number, (name, history) in enumerate(histories.items()):
            numbers = np.arange(1, len(history["epochs"][key]) + 1)
            for prefix, style in (("", "--"), ("val_", "-")):
                values = factor * np.array(history["epochs"][prefix + key])
                label = name if prefix else None
                axis.plot(numbers, values, style, color=f"C{number}", label=label)
        axis.set(title=title, xlabel="epoch", ylabel=unit)
    axes[0].legend(frameon=False, title="dashed: training")
    return figure

# %%
with SKIPPABLE, chapter("C"):
    subset = draw_subset(colour["table"], {"train": 4_000, "val": 1_000})
    branch_sets = {name: (rows, colour["folder"]) for name, rows in subset.items()}
    test_rows = colour["table"][colour["table"]["split"] == "test"]
    branch_sets["test"] = test_rows, colour["folder"]
    branch_contexts, _ = chapter_context(context, colour, branch_sets)
    branch_contexts["train"]["tables"] = subset | {"select": subset["val"]}
    show_table(layer_table(make_network(TWO_BRANCHES)))

# %% [markdown]
# ### Trials
#
# Ten epochs each; every trial changes one thing in the first.

# %%
with SKIPPABLE, chapter("C"):
    branch_trials = {
        name: fit_or_load(name, runs_to_do[name], branch_contexts["train"])
        for name in BRANCH_TRIALS
    }
    first_trial = branch_trials["branches_trial1"]["history"]["hyperparameters"]
    trial_tables = {
        name: predict_or_load(run, subset["val"], branch_contexts["val"])
        for name, run in branch_trials.items()
    }
    trial_figures = {name: evaluate(val) for name, val in trial_tables.items()}
    show_table(
        pd.DataFrame(
            {
                "Run": name.removeprefix("branches_"),
                "Changes": describe_step(
                    first_trial, run["history"]["hyperparameters"]
                )
                or describe_hyperparameters(
                    first_trial, ["loss_weights", "optimizer", "learning_rate"]
                ),
            }
            | headline(trial_figures[name])
            | {"Training": duration(run["history"]["seconds"])}
            for name, run in branch_trials.items()
        )
    )

# %% [markdown]
# ### Model A, with three seeds

# %%
with SKIPPABLE, chapter("C"):
    branch_runs = {
        name: fit_or_load(name, runs_to_do[name], branch_contexts["train"])
        for name in BRANCH_SEEDS
        if name in runs_to_do
    }
    branch_views = {
        name: predict_sets(run, branch_sets, branch_contexts)
        for name, run in branch_runs.items()
    }
    save_h5(
        load_network(branch_runs["age_gender_A"]), results_folder / "age_gender_A.h5"
    )

# %% [markdown]
# ### Model B

# %%
with SKIPPABLE, chapter("C: age_gender_B"):
    branch_runs["age_gender_B"] = fit_or_load(
        "age_gender_B", runs_to_do["age_gender_B"], branch_contexts["train"]
    )
    branch_views["age_gender_B"] = predict_sets(
        branch_runs["age_gender_B"], branch_sets, branch_contexts
    )
    save_h5(
        load_network(branch_runs["age_gender_B"]), results_folder / "age_gender_B.h5"
    )

# %% [markdown]
# ### Which one is better?

# %%
with SKIPPABLE, chapter("C"):
    compared = {
        name: run["history"]
        for name, run in branch_runs.items()
        if "_seed" not in name
    }
    show_figure(plot_models(compared))

# %%
with SKIPPABLE, chapter("C"):
    branch_rows = [
        result_row(run, name, view)
        for model, run in branch_runs.items()
        for name, view in branch_views[model].items()
    ]
    show_table(results_table(branch_rows))

# %%
with SKIPPABLE, chapter("C"):
    of_a = [row for row in branch_rows if row["model"].startswith("age_gender_A")]
    means = {
        name: [
            np.mean([row[metric] for row in of_a if row["split"] == name])
            for metric in ("age_mae", "gender_accuracy")
        ]
        for name in ("val", "test")
    }
    told = (
        f"Model A reaches on validation {means['val'][0]:.2f} years and "
        f"{100 * means['val'][1]:.1f} %, on the test pictures {means['test'][0]:.2f} years "
        f"and {100 * means['test'][1]:.1f} % (means over "
        f"{len(branch_runs) - ('age_gender_B' in branch_runs)} seeds; the assignment's "
        "report says 6.93 years and 86 % on validation)."
    )
    if "age_gender_B" in branch_views:
        step = compare(
            branch_views["age_gender_A"]["test"],
            branch_views["age_gender_B"]["test"],
            ["age_mae", "gender_accuracy"],
        )
        told += f" Model B against model A on the test pictures: {describe_changes(step)}."
    answer(told)
