import pathlib
root = pathlib.Path('/work/scratch/nb4')
p = root/'nb.py'
s = p.read_text()
def sub(old, new, count=1):
    global s
    assert s.count(old) == count, (s.count(old), old)
    s = s.replace(old, new)
sub('# [section 10](#ethics).*', '# [section 13](#ethics).*')
sub('[7](#runs), [11](#results) |', '[7](#runs), [14](#results) |')
sub('the rest is for sections 8 and 9.', 'the rest is for sections 8 to 12.')
sub('The test columns of the table in section 11 are', 'The test columns of the table in section 14 are')
sub('# ## 9 What limits it', '# ## 12 What limits it')
sub('# ## 10 Ethics and limits', '# ## 13 Ethics and limits')
sub('# ## 11 Present prediction', '# ## 14 Present prediction')
mark = '# %% [markdown]\n# <a id="labels"></a>\n'
assert s.count(mark) == 1
sections = ''.join((root/'new'/f'sec{n}.py').read_text().rstrip() + '\n\n' for n in (9, 10, 11))
s = s.replace(mark, sections + mark)
# order of views
sub('''    for name in set(gender_runs) - set(gender_views):
        gender_views[name] = predict_sets(
            gender_runs[name], gender["sets"], gender_contexts
        )
        show_figure(plot_curves(gender_runs[name]["history"]))
        show_figure(plot_gender(gender_views[name]))
''', '''    for name in [name for name in gender_runs if name not in gender_views]:
        gender_views[name] = predict_sets(
            gender_runs[name], gender["sets"], gender_contexts
        )
        show_figure(plot_curves(gender_runs[name]["history"]))
        show_figure(plot_gender(gender_views[name]))
''')
# single-task metrics
sub('''    log = read_log(partial / "log.csv")
    return {
''', '''    log = name_metrics(read_log(partial / "log.csv"), hyperparameters["tasks"])
    return {
''')
sub('''def read_log(path):
''', '''def name_metrics(log, tasks):
    """Name the metrics of a network with one output as those of many are named.

    Parameters
    ----------
    log : pandas.DataFrame
        As ``read_log`` returns it; Keras leaves the name of a single output out.
    tasks : sequence of str

    Returns
    -------
    pandas.DataFrame
    """
    (task, *others) = tasks
    plain = METRICS[task]
    if others:
        return log
    names = {f"{part}{plain}": f"{part}{task}_{plain}" for part in ("", "val_")}
    return log.rename(columns=names)


def read_log(path):
''')
# variants of predictions
sub('''def predict_or_load(run, table, context):
    """Give a run's predictions on one set: the saved ones, or new ones.
''', '''def predict_or_load(run, table, context, variant=""):
    """Give a run's predictions on one set: the saved ones, or new ones.
''')
sub('''    context : dict
        As for ``fit_or_load``.

    Returns
    -------
    pandas.DataFrame
        As ``predict_table`` returns it.
    """
    (split,) = table["split"].unique()
    path = of_run(run["stem"], f"_{split}.npz")
''', '''    context : dict
        As for ``fit_or_load``.
    variant : str
        Names a second way to predict the set, such as ``"_guessed"``.

    Returns
    -------
    pandas.DataFrame
        As ``predict_table`` returns it.
    """
    (split,) = table["split"].unique()
    path = of_run(run["stem"], f"_{split}{variant}.npz")
''')
sub('''    found = predict_or_load(run | {"told": "guessed"}, told, context)
''', '''    found = predict_or_load(run, told, context, "_guessed")
''')
# results
sub('''        "chapter": "A",
        "model": run["name"],
''', '''        "chapter": chapter_of(run["name"]),
        "model": run["name"],
''')
sub('''    rows = [
        {
            "Model": row["model"],
            "Set": row["split"].replace("_", " ").replace("val", "validation"),
''', '''    rows = [
        {
            "Assignment": row["chapter"],
            "Model": row["model"],
            "Set": row["split"].replace("_", " ").replace("val", "validation"),
''')
sub('''            "Training": f"{row['epochs']} epochs, {duration(row['train_seconds'])}",
''', '''            "Training": f"{row['epochs']} epochs, {duration(row['train_seconds'])}",
            "Hardware": row["hardware"],
''')
sub('''def log_look(run, predictions, folder, why):
    """Append a look at the test set to ``test_looks.csv``, once for each training.
''', '''def log_look(run, predictions, folder, why, split="test"):
    """Append a look at a test set to ``test_looks.csv``, once for each training.
''')
sub('''    folder : pathlib.Path
    why : str
    """
    path = folder / "test_looks.csv"
    history = run["history"]
    training = f"{history['name']}-{history['digest']} of {history['date']}"
''', '''    folder : pathlib.Path
    why : str
    split : str
        Such as ``"foreign_test"``.
    """
    path = folder / "test_looks.csv"
    history = run["history"]
    training = f"{history['name']}-{history['digest']} of {history['date']}"
    training += f", {split}" * (split != "test")
''')
sub('''        **{metric: figures[metric] for metric in HEADLINE},
        "why": why,
''', '''        **{metric: figures.get(metric) for metric in HEADLINE},
        "why": why,
''')
sub('''        endings = [".json", "_train.npz", "_val.npz", "_test.npz"]
        for ending in endings + [".keras"] * (name == "mtl"):
            source, target = of_run(run["stem"], ending), folder / f"{name}{ending}"
            if source.exists() and source != target:
                shutil.copyfile(source, target)
''', '''        whole = name in SHIPPED_MODELS
        for source in run["stem"].parent.glob(f"{run['stem'].name}[._]*"):
            ending = source.name.removeprefix(run["stem"].name)
            fits = ending in (".json", ".keras") or ending.endswith(".npz")
            if fits and (whole or ending != ".keras") and run["stem"].parent != folder:
                shutil.copyfile(source, folder / f"{name}{ending}")
''')
sub('''        As ``fit_or_load`` returns them; only ``mtl`` ships its weights.
''', '''        As ``fit_or_load`` returns them; those in ``SHIPPED_MODELS`` with weights.
''')
sub('''def publish_all(runs, results, folder):
''', '''SHIPPED_MODELS = (
    "mtl",
    "gender_baseline",
    "gender_improved",
    "gender_vgg16",
    "gender_mtl_transfer",
    "age_gender_A",
    "age_gender_B",
    "age_subclassed",
)


def publish_all(runs, results, folder):
''')
sub('''results = [*main_rows, *five_rows.values(), *val_rows]
''', '''results = [*main_rows, *five_rows.values(), *val_rows, *chapter_rows]
''')
sub('''val_rows += [
    result_row(run, "val", curve_val[run["history"]["images"]])
''', '''chapter_rows = [
    result_row(run, split, view)
    for runs, views in chapter_results
    for name, run in runs.items()
    for split, view in views[name].items()
]
for runs, views in chapter_results:
    for name, run in runs.items():
        for split in set(views[name]) - {"val"}:
            why = "a model of sections 9 to 11, after all choices"
            log_look(run, views[name][split], results_folder, why, split)
val_rows += [
    result_row(run, "val", curve_val[run["history"]["images"]])
''')
sub('''    published = candidates | seeds | study | sharing | curve_runs
''', '''    published = candidates | seeds | study | sharing | curve_runs
    for runs, _ in chapter_results:
        published |= runs
''')
# sections fill chapter_results
sub('''        "own-" ''','''        "own-" ''',0)
p.write_text(s)
