"""Core changes of nb4/nb.py for the chapters."""
import pathlib
p = pathlib.Path('/work/scratch/nb4/nb.py')
s = p.read_text()

def sub(old, new, count=1):
    global s
    assert s.count(old) == count, (s.count(old), old)
    s = s.replace(old, new)

sub("import contextlib\nimport datetime\nimport hashlib\nimport json\nimport os\nimport pathlib\nimport platform\nimport shutil\n",
    "import concurrent.futures\nimport contextlib\nimport datetime\nimport hashlib\nimport itertools\nimport json\nimport logging\nimport os\nimport pathlib\nimport platform\nimport re\nimport shutil\n")
sub('PROFILE = "full"  # "full", or "quick": every cell, few images and steps\n',
    'PROFILE = "full"  # "full", or "quick": every cell, few images and steps\n'
    'CHAPTERS = "BCD"  # assignments besides the main one: sections 9 (B), 10 (C), 11 (D)\n'
    'IMAGENET = ""  # a folder with ImageNet weights, where they cannot be downloaded\n')
sub('''    IPython.display.display(figure)
    plt.close(figure)
''', '''    IPython.display.display(figure)
    plt.close(figure)


class NotDone(Exception):
    """Raised at the start of work that is left out."""


SKIPPABLE = contextlib.suppress(NotDone)
NOT_DONE = {}  # why, by what failed


@contextlib.contextmanager
def chapter(name):
    """Do a cell's work as part of a chapter that may fail while the rest goes on.

    Write ``with SKIPPABLE, chapter("B"):``. The body is skipped where ``CHAPTERS`` does
    not name the chapter, or where it or the part failed before. An error in the body
    ends the chapter or the part: a table says why.

    Parameters
    ----------
    name : str
        ``"B"``, or a part of it such as ``"B: VGG16"``, which fails alone.

    Raises
    ------
    NotDone
        If the body is to be skipped.
    """
    if name[0] not in CHAPTERS or {name, name[0]} & set(NOT_DONE):
        raise NotDone(name)
    try:
        yield
    except Exception as why:  # whatever it is, the other chapters go on
        NOT_DONE[name] = f"{type(why).__name__}: {why}".replace("\\n", " ")
        show_table(pd.DataFrame({"Not done": [name], "Why": [NOT_DONE[name]]}))
''')
# flows
sub('''class LabelledBatches(keras.utils.PyDataset):
    """Name the labels of a ``multi_output`` iterator, so that Keras 3 can fit on it.

    Keras 3 takes labels as a tuple or a dict, the iterator yields a list.

    Parameters
    ----------
    flow : DataFrameIterator
        As ``make_flow`` makes it.
    sigma : float or None
        Where given, a further label ``age_distribution`` of that width (years).
    tasks : sequence of str
        Which labels the network answers to.
    """

    def __init__(self, flow, sigma=None, tasks=LABELS):
        super().__init__()
        self.flow = flow
        self.sigma = sigma
        self.tasks = tasks
''', '''class LabelledBatches(keras.utils.PyDataset):
    """Name the labels of a ``multi_output`` iterator, so that Keras 3 can fit on it.

    Keras 3 takes labels as a tuple or a dict, the iterator yields a list.

    Parameters
    ----------
    flow : DataFrameIterator
        As ``make_flow`` makes it.
    sigma : float or None
        Where given, a further label ``age_distribution`` of that width (years).
    tasks : sequence of str
        Which labels the network answers to.
    informed : bool
        Whether the network is told the gender label besides the picture.
    mirrored : bool
        Whether every picture is mirrored, left to right.
    """

    def __init__(self, flow, sigma=None, tasks=LABELS, informed=False, mirrored=False):
        super().__init__()
        self.flow = flow
        self.sigma = sigma
        self.tasks = tasks
        self.informed = informed
        self.mirrored = mirrored
''')
sub('''        images, labels = self.flow[index]
        named = dict(zip(LABELS, labels, strict=True))
        named = {task: named[task] for task in self.tasks}
        if self.sigma and "age" in named:
            named["age_distribution"] = age_distribution(named["age"], self.sigma)
        return images, named
''', '''        images, labels = self.flow[index]
        known = dict(zip(LABELS, labels, strict=True))
        named = {task: known[task] for task in self.tasks}
        if self.sigma and "age" in named:
            named["age_distribution"] = age_distribution(named["age"], self.sigma)
        if self.mirrored:
            images = images[:, :, ::-1]
        if self.informed:
            images = (images, known["gender"][:, None])
        return images, named
''')
sub('''class MirroredBatches(LabelledBatches):
    """The same batches with every picture mirrored, left to right."""

    def __getitem__(self, index):
        images, labels = super().__getitem__(index)
        return images[:, :, ::-1], labels


''', '')
sub('''    model : keras.Model
        Outputs ``age``, ``gender`` and ``ethnicity``, or some of them.
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Holds the folders of the sets.
    flip''', '''    model : keras.Model
        Outputs ``age``, ``gender`` and ``ethnicity``, or some of them. A network with a
        second input is told what the column ``gender`` holds.
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Holds the folders of the sets.
    flip''')
sub('''    shape = model.input_shape[1:]
    flow = make_flow(make_datagen(), table, folder, batch_size, shape=shape)
    views = [LabelledBatches(flow)] + [MirroredBatches(flow)] * flip_averaging
    outputs''', '''    shape = model.inputs[0].shape[1:]
    flow = make_flow(make_datagen(), table, folder, batch_size, shape=shape)
    views = [
        LabelledBatches(flow, informed=len(model.inputs) > 1, mirrored=mirrored)
        for mirrored in (False, True)[: 1 + flip_averaging]
    ]
    outputs''')
sub('''    return LabelledBatches(flow, sigma, hyperparameters["tasks"])
''', '''    informed = hyperparameters.get("informed", False)
    return LabelledBatches(flow, sigma, hyperparameters["tasks"], informed)
''')
sub('''        ``augmentation``, ``batch_size``, ``seed``, ``age_head``, ``sigma``, ``tasks``;
        ``shape``, where it is not 48×48×1.
''','''        ``augmentation``, ``batch_size``, ``seed``, ``age_head``, ``sigma``, ``tasks``;
        ``shape``, where it is not 48×48×1, and ``informed`` (see ``LabelledBatches``),
        where it is not False.
''')
# schedule
sub('''def compile_model(model, hyperparameters, steps_per_epoch=1):
    """Give a model its losses, their weights, its metrics and its optimizer.

    Parameters
    ----------
    model : keras.Model
        With outputs named as in ``LOSSES``; losses of absent ones are left out.
    hyperparameters : dict
        ``learning_rate``, ``warmup_epochs``, ``epochs``, ``loss_weights``, and as for
        ``make_optimizer``; ``losses``, where they are not those of ``LOSSES``.
    steps_per_epoch : int
        Batches per epoch: the schedule counts steps.
    """
    warmup = hyperparameters["warmup_epochs"] * steps_per_epoch
    total = hyperparameters["epochs"] * steps_per_epoch
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=hyperparameters["learning_rate"],
        warmup_steps=warmup,
        decay_steps=max(1, total - warmup),
    )
    heads = list(model.output_names)
    losses = LOSSES | hyperparameters.get("losses", {})
    model.compile(
        optimizer=make_optimizer(hyperparameters, schedule),
''', '''def make_schedule(hyperparameters, steps_per_epoch):
    """Make the learning rate's course: a linear rise, then a cosine down to zero.

    Parameters
    ----------
    hyperparameters : dict
        ``learning_rate``, ``warmup_epochs``, ``epochs``.
    steps_per_epoch : int
        Batches per epoch: the schedule counts steps.

    Returns
    -------
    keras.optimizers.schedules.LearningRateSchedule
    """
    warmup = hyperparameters["warmup_epochs"] * steps_per_epoch
    total = hyperparameters["epochs"] * steps_per_epoch
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=hyperparameters["learning_rate"],
        warmup_steps=warmup,
        decay_steps=max(1, total - warmup),
    )


def compile_model(model, hyperparameters, steps_per_epoch=1):
    """Give a model its losses, their weights, its metrics and its optimizer.

    Parameters
    ----------
    model : keras.Model
        With outputs named as in ``LOSSES``; losses of absent ones are left out. One that
        is a class of its own, for an own loop, gets the optimizer alone.
    hyperparameters : dict
        ``loss_weights``, and as for ``make_schedule`` and ``make_optimizer``;
        ``losses``, where they are not those of ``LOSSES``.
    steps_per_epoch : int
        As for ``make_schedule``.
    """
    schedule = make_schedule(hyperparameters, steps_per_epoch)
    optimizer = make_optimizer(hyperparameters, schedule)
    heads = getattr(model, "output_names", None)
    if heads is None:
        model.compile(optimizer=optimizer)
        return
    losses = LOSSES | hyperparameters.get("losses", {})
    model.compile(
        optimizer=optimizer,
''')
sub('''    elif hyperparameters["optimizer"] == "adam":
        made = keras.optimizers.AdamW(schedule, weight_decay=decay)
''', '''    elif hyperparameters["optimizer"] == "adam":
        made = keras.optimizers.AdamW(schedule, weight_decay=decay)
    elif hyperparameters["optimizer"] == "rmsprop":
        made = keras.optimizers.RMSprop(schedule, weight_decay=decay)
''')
sub('''            f"There is no optimizer {hyperparameters['optimizer']!r}: use adam or muon."
''','''            f"There is no optimizer {hyperparameters['optimizer']!r}: use adam, muon or "
            "rmsprop."
''')
sub('''        ``optimizer`` (``"muon"`` or ``"adam"``, which is AdamW) and ``weight_decay``
        (decoupled''','''        ``optimizer`` (``"muon"``, ``"rmsprop"``, or ``"adam"``, which is AdamW) and
        ``weight_decay`` (decoupled''')
# export
sub('''    model = make_network(hyperparameters)
    model.load_weights(weights)
    outputs = {task: model.get_layer(task).output for task in hyperparameters["tasks"]}
    keras.Model(model.input, outputs, name=model.name).save(path)
''','''    model = make_network(hyperparameters)
    model.load_weights(weights)
    if hasattr(model, "as_functional"):
        model = model.as_functional()
    outputs = {
        task: tensor
        for task, tensor in zip(model.output_names, model.outputs, strict=True)
        if task in hyperparameters["tasks"]
    }
    keras.Model(model.inputs, outputs, name=model.name).save(path)
''')
# graph
sub('''    if tf is None or (folder / "graph").exists():
        return
    shape = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    graph = tf.function(model).get_concrete_function(shape).graph
''','''    if tf is None or (folder / "graph").exists() or not hasattr(model, "inputs"):
        return
    shape = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    graph = tf.function(model).get_concrete_function(shape).graph
''')
sub('''    """Give TensorBoard the graph of a model.

    What''','''    """Give TensorBoard the graph of a functional model.

    What''')
sub('''    write_graph(model, log_dir)
    model.fit(
        training,
        validation_data=make_batches(tables["select"], folder, hyperparameters, False),
        epochs=hyperparameters["epochs"],
        callbacks=make_callbacks(name, hyperparameters, partial, log_dir),
        verbose=0,
    )
''','''    write_graph(model, log_dir)
    fit = train_by_tape if isinstance(model, AgeEstimator) else model.fit
    fit(
        training,
        validation_data=make_batches(tables["select"], folder, hyperparameters, False),
        epochs=hyperparameters["epochs"],
        callbacks=make_callbacks(name, hyperparameters, partial, log_dir),
        verbose=0,
    )
''')
p.write_text(s)
