import pathlib
root = pathlib.Path('/work/scratch/nb4')
p = root/'nb.py'
s = p.read_text()
def sub(old, new, count=1):
    global s
    assert s.count(old) == count, (s.count(old), old)
    s = s.replace(old, new)
sub('import itertools\n', '')
sub('''        return {name for name, good in zip(names, pool.map(decodes, names)) if not good}
''', '''        good = list(pool.map(decodes, names))
    return {name for name, fine in zip(names, good, strict=True) if not fine}
''')
sub('''fetch_repository(REPOSITORY)
machine = describe_machine()
''', '''chapter_results = []  # of sections 9 to 11, for section 14: runs, predictions by set
fetch_repository(REPOSITORY)
machine = describe_machine()
''')
sub('''        show_figure(plot_curves(gender_runs[name]["history"]))
        show_figure(plot_gender(gender_views[name]))

''', '''        show_figure(plot_curves(gender_runs[name]["history"]))
        show_figure(plot_gender(gender_views[name]))
    chapter_results += [
        (gender_runs, gender_views),
        (trials, {name: {"val": val} for name, val in trial_val.items()}),
    ]

''')
sub('''    branch_rows = [
        result_row(run, name, view)
''', '''    chapter_results += [
        (branch_runs, branch_views),
        (branch_trials, {name: {"val": val} for name, val in trial_tables.items()}),
    ]
    branch_rows = [
        result_row(run, name, view)
''')
sub('''    views = {"told nothing": age_views["age_subclassed"]} | informed
''', '''    views = {"told nothing": age_views["age_subclassed"]} | informed
    guessed = {f"{name}_guessed": view for name, view in informed["told a guess"].items()}
    all_views = age_views | {"age_informed": age_views["age_informed"] | guessed}
    chapter_results.append((age_runs, all_views))
''')
sub('''        for split in set(views[name]) - {"val"}:
            why = "a model of sections 9 to 11, after all choices"
            log_look(run, views[name][split], results_folder, why, split)
''', '''        for split in [split for split in views[name] if "test" in split]:
            why = "a model of sections 9 to 11, after all choices"
            log_look(run, views[name][split], results_folder, why, split)
''')
sub('''show_table(results_table([row for row in results if row["split"] != "val"]))
''', '''show_table(results_table([row for row in results if "test" in row["split"]]))
''')
sub('''    table = results_table([row for row in results if row["split"] != "val"])
''', '''    table = results_table([row for row in results if "test" in row["split"]])
''')
# plan by section
a = s.index('plan = plan_runs(runs_to_do')
b = s.index('# %%\nto_train = plan[')
s = s[:a] + '''plan = plan_runs(runs_to_do, (files["split"] == "train").sum(), *places)
sections = {name: section for section, runs in RUN_GROUPS.items() for name in runs}
rows = [
    {
        "Section": section,
        "Trainings": len(part),
        "Loaded": (part["This run"] == "loads it").sum(),
        "Done here": ", ".join(part["Training"][part["This run"] != "loads it"]),
        "They take, or took": duration(part["seconds"].sum()),
    }
    for section, part in plan.groupby(plan["Training"].map(sections), sort=False)
]
show_table(pd.DataFrame(rows))

''' + s[b:]
sub('''        speed = 400 if hyperparameters["filters"] == MAIN_RUN["filters"] else 700
''', '''        speed = 400 if hyperparameters["filters"] == MAIN_RUN["filters"] else 700
        speed = {"feature head": 5_000, "resnet50": 20}.get(
            hyperparameters.get("network"), 150 if "shape" in hyperparameters else speed
        )
''')
p.write_text(s)
