# %% tags=["functions"]
def learn_from_features(name, data, context, runs, imagenet):
    """Train a new head on the features of a frozen network, or load it.

    Parameters
    ----------
    name : str
        Of the run; its hyperparameters name the frozen network (``features``).
    data : dict
        As ``load_gender_data`` returns it.
    context : dict
        As for ``fit_or_load``, of this chapter.
    runs : dict[str, dict]
        Finished runs whose trunk may be taken, as ``fit_or_load`` returns them.
    imagenet : str
        As ``weights`` of ``load_pretrained``.

    Returns
    -------
    run : dict
        As ``fit_or_load`` returns it.
    views : dict[str, pandas.DataFrame]
        Predictions by set.
    """
    hyperparameters = runs_to_do[name]
    where = context["data_name"], context["model_dir"], context["shipped"]
    own, finished = find_run(name, hyperparameters, *where)
    names = [part for part in data["parts"] if part != "train"]
    known = finished and all(of_run(finished, f"_{part}.npz").exists() for part in names)
    if known:
        run = fit_or_load(name, hyperparameters, context)
        return run, predict_parts(run, data)
    frozen = build_frozen(hyperparameters["features"], runs, imagenet)
    kept = of_run(own, ".features")
    for part in ("train", "val"):
        folder = data["contexts"][part]["folder"]
        read_features(frozen, data["parts"][part], folder, kept / f"{part}.npz")
    run = fit_or_load(name, hyperparameters, context | {"folder": kept})
    whole = join_networks(frozen, load_network(run))
    whole.save(of_run(run["stem"], ".keras"))
    return run, predict_parts(run, data)

# %% [markdown]
# ### Which one is best, and does it hold elsewhere?
#
# The bars show the accuracy on validation (held-out half), on UTKFace's test pictures and on the
# foreign set: the drop to the last is what a network's own test set does not tell.

# %% tags=["functions"]
def plot_drop(figures):
    """Plot a metric of several models on several sets, with its intervals.

    Parameters
    ----------
    figures : dict[str, dict[str, dict]]
        As ``evaluate`` returns them, by model and set.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    sets = list(next(iter(figures.values())))
    colours = (SPLIT_COLOURS["val"], SPLIT_COLOURS["test"], "black")
    for offset, (name, colour) in enumerate(zip(sets, colours, strict=False)):
        values = np.array([100 * views[name]["gender_accuracy"] for views in figures.values()])
        ends = np.array([views[name]["gender_accuracy_ci95"] for views in figures.values()])
        places = np.arange(len(figures)) + 0.2 * (offset - (len(sets) - 1) / 2)
        errors = np.abs(100 * ends.T - values)
        label = name.replace("_", " ")
        axes.errorbar(places, values, errors, fmt="o", color=colour, capsize=3, label=label)
    axes.set_xticks(range(len(figures)), figures)
    axes.set(ylabel=METRIC_NAMES["gender_accuracy"])
    axes.legend(frameon=False)
    return figure

# %%
if gender:
    models = {"baseline": baseline_views, "improved": improved_views} | transfer_views
    gender_figures = {
        model: {name: evaluate(view) for name, view in views.items()}
        for model, views in models.items()
    }
    show_figure(plot_drop(gender_figures))

# %% [markdown]
# ### Against the literature
#
# | Paper | Pictures | What they did | Gender accuracy |
# |---|---|---|---|
# | Levi & Hassner, CVPRW 2015 | Adience, unconstrained, 227×227 crops | a CNN of three convolutions and two hidden layers, from scratch, five-fold | 86.8 % ± 1.4 |
# | Yaman et al., CVPRW 2019 | profile faces and ears, FERET, UND | ResNet-50 and VGG-16 fused, domain adaptation, center loss | to be filled |
# | Yang et al., ICPR 2006 | | | |
# | Xu et al., ICPR 2008 | | | |
