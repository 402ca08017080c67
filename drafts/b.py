# %% [markdown]
# <a id="gender"></a>
# ## 10 Gender recognition (assignment B)
#
# *How far does a small network get, what improves it, and does it know faces from elsewhere?*
# Colour pictures of 100×100 pixels, one task. The networks learn from UTKFace's pictures, each in
# the set that the main assignment gave it, and are tested twice: on UTKFace's test pictures and on
# a **foreign** data set, class folders that another group of people made. Who has class folders
# for training puts them into `data/gender`.

# %% tags=["functions"]
UTKFACE_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d{17})")
CLASS_FOLDERS = {  # how data sets call the folders of the two labels
    "male": ("male", "males", "man", "men", "m"),
    "female": ("female", "females", "woman", "women", "f", "w"),
}


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
        Columns ``img_name``, ``fault``, ``row`` (0), as ``find_faults`` returns them.

    Raises
    ------
    ValueError
        If no file has such a name.
    """
    rows, faults = [], []
    for path in sorted(folder.rglob("[!.]*")):
        name = path.relative_to(folder).as_posix()
        parts = UTKFACE_NAME.match(path.name)
        if path.is_dir():
            continue
        if path.suffix.lower() not in PICTURES:
            faults.append((name, "file that is not an image", 0))
            continue
        if parts is None or int(parts[1]) > AGES[-1]:
            faults.append((name, "name that holds no labels", 0))
            continue
        main_name = f"{parts[4]}.jpg.chip.jpg"
        if (digest := hash_name(main_name)) not in known:
            faults.append((name, "time stamp of no image of the main assignment", 0))
        else:
            labels = map(int, parts.groups()[:3])
            rows.append((name, *labels, known[digest], main_name))
    if not rows:
        raise ValueError(
            f"{folder} holds no picture named as UTKFace names them, such as "
            "25_0_2_20170116174525125.jpg.chip.jpg."
        )
    return (
        pd.DataFrame(rows, columns=["img_name", *LABELS, "split", "main_name"]),
        pd.DataFrame(faults, columns=["img_name", "fault", "row"]),
    )


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
        As ``list_utkface`` returns them.

    Raises
    ------
    ValueError
        If a label has no folder, or a folder no picture.
    """
    rows, faults = [], []
    for code, names in enumerate(CLASS_FOLDERS.values()):
        below = [path for path in folder.iterdir() if path.name.lower() in names]
        paths = sorted(path for part in below for path in part.rglob("[!.]*"))
        files = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
        good = [name for name in files if name.lower().endswith(PICTURES)]
        if not good:
            raise ValueError(
                f"{folder} has no pictures in a folder named {' or '.join(names)}."
            )
        rows += [(name, code, split) for name in good]
        odd = sorted(set(files) - set(good))
        faults += [(name, "file that is not an image", 0) for name in odd]
    return (
        pd.DataFrame(rows, columns=["img_name", "gender", "split"]).assign(
            age=np.nan, ethnicity=np.nan
        ),
        pd.DataFrame(faults, columns=["img_name", "fault", "row"]),
    )


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
    rows.append(
        {
            "Layer": "Total",
            "Output shape": "",
            "Parameters": f"{asked:,}",
            "Built so": "yes" if model.count_params() == asked else "NO",
        }
    )
    return pd.DataFrame(rows)


def colour_pictures(data_dir, table, image_folder):
    """Choose the pictures that chapters B to D learn from.

    Parameters
    ----------
    data_dir : pathlib.Path
        May hold ``UTKFace`` with the colour pictures.
    table : pandas.DataFrame
        The main assignment's, as ``load_folder`` returns it.
    image_folder : pathlib.Path
        Its pictures.

    Returns
    -------
    table : pandas.DataFrame
        ``img_name``, the labels, ``split``.
    folder : pathlib.Path
        Holds the pictures.
    faults : pandas.DataFrame
        As ``find_faults`` returns them.
    sentence : str
        Says what was chosen.
    """
    folder = data_dir / "UTKFace"
    if folder.is_dir():
        table, faults = list_utkface(folder, read_split_table())
        return table, folder, faults, f"UTKFace's {len(table):,} colour pictures"
    none = pd.DataFrame(columns=["img_name", "fault", "row"])
    sentence = (
        f"the main assignment's {len(table):,} pictures of 48×48 grey levels, enlarged: "
        "no colour, and no detail that the larger size could show (UTKFace's own "
        f"pictures go into {folder})"
    )
    return table, image_folder, none, sentence


def find_class_folders(data_dir):
    """Find a data set of class folders, for the foreign test of assignment B.

    Parameters
    ----------
    data_dir : pathlib.Path

    Returns
    -------
    pathlib.Path or None
        The first folder, in alphabetical order, that holds one folder for each label.
    """
    for folder in sorted(path for path in data_dir.glob("*") if path.is_dir()):
        below = {path.name.lower() for path in folder.iterdir() if path.is_dir()}
        if all(below & set(names) for names in CLASS_FOLDERS.values()):
            return folder
    return None

# %% [markdown]
# ### Which pictures?

# %%
colour_table, colour_folder, colour_faults, colour_sentence = colour_pictures(
    pathlib.Path(DATA_DIR), table, image_folder
)
foreign_folder = find_class_folders(pathlib.Path(DATA_DIR))
