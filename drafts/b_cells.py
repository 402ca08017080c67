# %% tags=["functions"]
def load_gender_data(data_dir, table, image_folder, context):
    """Load the pictures of assignment B.

    Parameters
    ----------
    data_dir : pathlib.Path
    table : pandas.DataFrame
        The main assignment's, as ``load_folder`` returns it.
    image_folder : pathlib.Path
        Its pictures.
    context : dict
        Of the main assignment, as for ``fit_or_load``.

    Returns
    -------
    dict
        ``parts``: a table for each of ``train``, ``val``, ``test`` and, if there is one,
        ``foreign_test``; ``held_out``: the rows of ``val`` that choose nothing;
        ``contexts``: for ``fit_or_load`` and ``predict_or_load``, by part; ``faults``;
        ``sentence``.
    """
    colour, folder, faults, sentence = colour_pictures(data_dir, table, image_folder)
    parts = {split: colour[colour["split"] == split] for split in SPLITS}
    names = parts["val"].get("main_name", parts["val"]["img_name"])
    half = validation_part(names)
    tables = {"train": parts["train"], "select": parts["val"][half == "select"]}
    own = context | {"tables": tables, "folder": folder}
    contexts = dict.fromkeys(SPLITS, own)
    foreign = find_class_folders(data_dir)
    if foreign is not None:
        parts["foreign_test"], odd = list_class_folders(foreign, "foreign_test")
        contexts["foreign_test"] = own | {"folder": foreign}
        faults = pd.concat([faults, odd], ignore_index=True)
        sentence += f"; the foreign test set is `{foreign.name}`"
    return {
        "parts": parts,
        "held_out": parts["val"].index[half == "calibrate"],
        "contexts": contexts,
        "faults": faults,
        "sentence": sentence,
    }


def gender_counts(parts):
    """Count the gender labels of each set.

    Parameters
    ----------
    parts : dict[str, pandas.DataFrame]

    Returns
    -------
    pandas.DataFrame
        One row per set.
    """
    rows = []
    for name, part in parts.items():
        counts = [int((part["gender"] == code).sum()) for code in range(len(GENDERS))]
        shares = [f"{n:,} ({100 * n / len(part):.1f} %)" for n in counts]
        rows.append({"Set": name.replace("_", " "), "Images": f"{len(part):,}"})
        rows[-1] |= dict(zip(GENDERS, shares, strict=True))
    return pd.DataFrame(rows)


def predict_parts(run, data, names=("val", "test", "foreign_test")):
    """Predict sets of assignment B by one run.

    Parameters
    ----------
    run : dict
        As ``fit_or_load`` returns it.
    data : dict
        As ``load_gender_data`` returns it.
    names : sequence of str
        Sets; those that are not there are left out.

    Returns
    -------
    dict[str, pandas.DataFrame]
        As ``predict_table`` returns them, by set.
    """
    return {
        name: predict_or_load(run, data["parts"][name], data["contexts"][name])
        for name in names
        if name in data["parts"]
    }


def plot_gender(views):
    """Plot the ROC curves of several sets, and the confusion matrix of each.

    Parameters
    ----------
    views : dict[str, pandas.DataFrame]
        As ``predict_table`` returns them, by name of the set.

    Returns
    -------
    matplotlib.figure.Figure
    """
    shape = {"figsize": (3.4 * (1 + len(views)), 3.2), "layout": "constrained"}
    figure, axes = plt.subplots(1, 1 + len(views), **shape)
    axes[0].set_prop_cycle(color=[SPLIT_COLOURS["val"], SPLIT_COLOURS["test"], "black"])
    draw_roc(
        axes[0],
        {
            name.replace("_", " "): (view["gender"], view["gender_probability"])
            for name, view in views.items()
        },
    )
    axes[0].set_title("ROC of the label female")
    for axis, (name, view) in zip(axes[1:], views.items(), strict=True):
        guess = (view["gender_probability"] >= 0.5).astype(int)
        draw_confusion(axis, view["gender"], guess, GENDERS)
        axis.set_title(name.replace("_", " ").capitalize())
    return figure

# %%
gender = attempt(
    "B", load_gender_data, pathlib.Path(DATA_DIR), table, image_folder, context
)
if gender:
    show_table(gender_counts(gender["parts"]))
    show_table(summarise_faults(gender["faults"]))
    answer(f"The pictures are {gender['sentence']}.")

# %% [markdown]
# ### The baseline
#
# Exactly the figure of the assignment, row by row. (Its text says that the pools have stride 1;
# only the figure's stride of 2 gives the figure's sizes.)

# %%
if gender:
    show_table(check_baseline(make_network(GENDER_BASELINE)))

# %%
if gender:
    gender_context = gender["contexts"]["train"]
    baseline = fit_or_load(
        "gender_baseline", runs_to_do["gender_baseline"], gender_context
    )
    show_figure(plot_curves(baseline["history"]))

# %%
if gender:
    baseline_views = predict_parts(baseline, gender)
    show_figure(plot_gender(baseline_views))
    show_table(
        metrics_table({name: evaluate(view) for name, view in baseline_views.items()})
    )

# %% [markdown]
# ### Seven experiments
#
# Each changes one thing in the one before, on a third of the training pictures, and is kept if the
# selection half of validation says so; differences are on the held-out half.

# %%
if gender:
    trials = {
        name: fit_or_load(name, runs_to_do[name], gender_context)
        for name in GENDER_RUNS
        if name.startswith("gender_trial")
    }
    trial_val = {
        name: predict_parts(run, gender, ["val"])["val"] for name, run in trials.items()
    }
    trial_steps = {
        pair: compare(
            *(trial_val[name].loc[gender["held_out"]] for name in pair),
            ["gender_accuracy", "gender_auc"],
        )
        for pair in itertools.pairwise(trials)
    }
    trial_rows = []
    for name, run in trials.items():
        own = run["history"]["hyperparameters"]
        former = GENDER_TRIAL_ORDER[name]
        change = "as the baseline, on fewer pictures"
        if former:
            change = describe_step(trials[former]["history"]["hyperparameters"], own)
        figures = evaluate(trial_val[name].drop(index=gender["held_out"]))
        trial_rows.append(
            {
                "Run": name.removeprefix("gender_"),
                "What it changes": change,
                "Selection half: accuracy (%)": format_metric("gender_accuracy", figures),
                "AUC": format_metric("gender_auc", figures),
                "Parameters": f"{run['history']['parameters']:,}",
                "Training": duration(run["history"]["seconds"]),
            }
        )
    show_table(pd.DataFrame(trial_rows))

# %% [markdown]
# What did each change on the held-out half?

# %%
if gender:
    held_trials = restrict(trial_val, gender["held_out"])
    trial_steps = {
        (former, name): compare(
            held_trials[former], held_trials[name], ["gender_accuracy", "gender_auc"]
        )
        for name, former in GENDER_TRIAL_ORDER.items()
        if former
    }
    show_table(steps_table(trial_steps))

# %% [markdown]
# ### The improved model
#
# What the experiments kept, with twice the convolutions, on all training pictures.

# %%
if gender:
    improved = fit_or_load(
        "gender_improved", runs_to_do["gender_improved"], gender_context
    )
    improved_network = make_network(runs_to_do["gender_improved"])
    show_table(layer_table(improved_network))
    show_figure(plot_curves(improved["history"]))

# %%
if gender:
    improved_views = predict_parts(improved, gender)
    show_figure(plot_gender(improved_views))
    show_table(
        metrics_table({name: evaluate(view) for name, view in improved_views.items()})
    )
