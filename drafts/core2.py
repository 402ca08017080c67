import pathlib
p = pathlib.Path('/work/scratch/nb4/nb.py')
s = p.read_text()
def sub(old, new, count=1):
    global s
    assert s.count(old) == count, (s.count(old), old)
    s = s.replace(old, new)
sub('''    if hasattr(model, "as_functional"):
        model = model.as_functional()
    outputs = {
        task: tensor
        for task, tensor in zip(model.output_names, model.outputs, strict=True)
        if task in hyperparameters["tasks"]
    }
    keras.Model(model.inputs, outputs, name=model.name).save(path)
''','''    if hasattr(model, "as_functional"):
        model.as_functional().save(path)
        return
    outputs = {task: model.get_layer(task).output for task in hyperparameters["tasks"]}
    keras.Model(model.input, outputs, name=model.name).save(path)
''')
sub('''    fit = train_by_tape if isinstance(model, AgeEstimator) else model.fit
    fit(
''','''    fit = getattr(model, "train_by_tape", model.fit)  # section 11 has a loop of its own
    fit(
''')
# runs: groups
sub('''ALL_RUNS = MAIN_SEEDS | FIVE_RUNS | STUDY_RUNS | SHARING_RUNS | CURVE_RUNS
''','''GENDER_BASELINE = MAIN_RUN | {  # of assignment B
    "network": "gender baseline",
    "shape": [100, 100, 3],
    "tasks": ["gender"],
    "augmentation": "none",
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epochs": 15,
    "patience": 15,
}
GENDER_TRIAL = GENDER_BASELINE | {"share": 1 / 3, "epochs": 12, "patience": 12}
GENDER_DEEP = GENDER_TRIAL | {
    "network": "shared trunk",
    "filters": [16, 32, 64, 128, 128],
    "convolutions": [1, 1, 1, 1, 1],
    "shared_units": 128,
    "head_units": 64,
    "dropout": 0.0,
}
GENDER_DROPOUT = GENDER_DEEP | {"dropout": 0.25}
GENDER_AUGMENTED = GENDER_DROPOUT | {"augmentation": "mild, linear"}
GENDER_MUON = GENDER_AUGMENTED | {
    "optimizer": "muon",
    "learning_rate": 2e-3,
    "weight_decay": 0.1,
}
GENDER_WIDE = GENDER_MUON | {"filters": [32, 64, 128, 256, 256]}
GENDER_HEAD = GENDER_BASELINE | {
    "network": "feature head",
    "batch_size": 128,
    "weight_decay": 0.01,
}
GENDER_RUNS = {
    "gender_baseline": GENDER_BASELINE,
    "gender_trial1": GENDER_TRIAL,
    "gender_trial2": GENDER_DEEP,
    "gender_trial3": GENDER_DROPOUT,
    "gender_trial4": GENDER_AUGMENTED,
    "gender_trial5": GENDER_MUON,
    "gender_trial6": GENDER_MUON | {"activation": "elu"},
    "gender_trial7": GENDER_WIDE,
    "gender_improved": GENDER_WIDE
    | {"convolutions": [1, 1, 2, 2, 1], "share": 1.0, "epochs": 20, "patience": 20},
    "gender_vgg16": GENDER_HEAD | {"features": "VGG16", "feature_count": 512},
    "gender_mtl_transfer": GENDER_HEAD | {"features": "mtl", "feature_count": 256},
}
GENDER_TRIALS = {  # what each changes one thing of
    "gender_trial1": None,
    "gender_trial2": "gender_trial1",
    "gender_trial3": "gender_trial2",
    "gender_trial4": "gender_trial3",
    "gender_trial5": "gender_trial4",
    "gender_trial6": "gender_trial5",
    "gender_trial7": "gender_trial5",
}
TWO_BRANCHES = MAIN_RUN | {  # of assignment C
    "network": "two branches",
    "shape": [128, 128, 3],
    "tasks": ["age", "gender"],
    "filters": [16, 32, 32, 64, 64, 128],
    "head_units": [128, 64],
    "dropout": 0.3,
    "age_head": "scalar",
    "losses": {"age": "mse"},
    "loss_weights": {"age": 0.1, "gender": 1.0},
    "augmentation": "mild, linear",
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epochs": 40,
    "patience": 40,
}
BRANCH_TRIAL = TWO_BRANCHES | {"epochs": 10, "patience": 10}
BRANCH_SEEDS = {
    "age_gender_A" + (f"_seed{seed}" if seed > SEED else ""): TWO_BRANCHES
    | {"seed": seed}
    for seed in SHARING_SEEDS
}
BRANCH_TRIALS = {
    "branches_trial1": BRANCH_TRIAL,
    "branches_trial2": BRANCH_TRIAL | {"loss_weights": {"age": 0.01, "gender": 1.0}},
    "branches_trial3": BRANCH_TRIAL | {"optimizer": "rmsprop"},
    "branches_trial4": BRANCH_TRIAL | {"learning_rate": 4e-3},
}
BRANCH_RUNS = BRANCH_SEEDS | BRANCH_TRIALS | {
    "age_gender_B": TWO_BRANCHES
    | {"network": "resnet50", "learning_rate": 1e-4, "epochs": 10, "patience": 10},
}
AGE_SUBCLASSED = MAIN_RUN | {  # of assignment D
    "network": "age estimator",
    "shape": [100, 100, 3],
    "tasks": ["age"],
    "filters": [16, 32, 64, 128],
    "age_head": "scalar",
    "answer": "relu",
    "informed": False,
    "augmentation": "mild, linear",
    "batch_size": 64,
    "share": 1 / 3,
    "epochs": 15,
    "patience": 15,
}
AGE_RUNS = {
    "age_subclassed": AGE_SUBCLASSED,
    "age_linear": AGE_SUBCLASSED | {"answer": "linear"},
    "age_classes": AGE_SUBCLASSED | {"answer": "classes"},
    "age_informed": AGE_SUBCLASSED | {"informed": True},
}
RUN_GROUPS = {  # by the section that shows them
    "5 Training": MAIN_SEEDS | STUDY_RUNS,
    "7 Five runs": FIVE_RUNS,
    "8 Does sharing help?": SHARING_RUNS,
    "9 Gender recognition (B)": GENDER_RUNS,
    "10 Two branches (C)": BRANCH_RUNS,
    "11 Age, subclassed (D)": AGE_RUNS,
    "12 What limits it?": CURVE_RUNS,
}
CHAPTER_RUNS = {"B": GENDER_RUNS, "C": BRANCH_RUNS, "D": AGE_RUNS}
ALL_RUNS = {name: run for runs in RUN_GROUPS.values() for name, run in runs.items()}


def chapter_of(name):
    """Say to which chapter a run belongs.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        ``"A"``, ``"B"``, ``"C"`` or ``"D"``.
    """
    return next((key for key, runs in CHAPTER_RUNS.items() if name in runs), "A")
''')
sub('''    epochs = 10 if hyperparameters["epochs"] == MAIN_RUN["epochs"] else 3 * longer
    return hyperparameters | short | {"epochs": epochs}
''','''    epochs = 10 if hyperparameters["epochs"] == MAIN_RUN["epochs"] else 3 * longer
    images = 512 if "shape" in hyperparameters else None
    return hyperparameters | short | {"epochs": epochs, "images": images}
''')
sub('''        if not short or hyperparameters["seed"] == SEED
    }
''','''        if (not short or hyperparameters["seed"] == SEED)
        and chapter_of(name) in "A" + CHAPTERS
    }
''')
p.write_text(s)
