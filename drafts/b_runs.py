GENDER_BASELINE = MAIN_RUN | {
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
GENDER_TRIAL = GENDER_BASELINE | {"share": 1 / 3, "epochs": 12}
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
GENDER_ELU = GENDER_MUON | {"activation": "elu"}
GENDER_WIDE = GENDER_MUON | {"filters": [32, 64, 128, 256, 256]}
GENDER_IMPROVED = GENDER_WIDE | {
    "convolutions": [1, 2, 2, 2, 1],
    "share": 1.0,
    "epochs": 20,
}
GENDER_RUNS = {
    "gender_baseline": GENDER_BASELINE,
    "gender_trial1": GENDER_TRIAL,
    "gender_trial2": GENDER_DEEP,
    "gender_trial3": GENDER_DROPOUT,
    "gender_trial4": GENDER_AUGMENTED,
    "gender_trial5": GENDER_MUON,
    "gender_trial6": GENDER_ELU,
    "gender_trial7": GENDER_WIDE,
    "gender_improved": GENDER_IMPROVED,
    "gender_mtl_transfer": GENDER_BASELINE | {"network": "features", "features": "mtl"},
    "gender_vgg16": GENDER_BASELINE | {"network": "features", "features": "VGG16"},
}
