"""What serves the notebooks: data, runs, predictions, metrics, tables, figures.

The modules stand in the order in which data flow; each imports only modules above it:

labels       what sets, labels and pictures are called; which set a picture belongs to
pictures     a picture is read, or refused with a reason: in one place
tables       CSV files as people and programs write them
sources      the user's pictures, brought into the assignment's layout
dataset      labels and pictures, read and checked: one frozen ``Dataset``
duplicates   the same picture twice, and what their labels say
colour       colour pictures and class folders, as ``Dataset`` too
batches      from a table to what Keras fits on
networks     optimizer, shared trunk, pretrained networks
measure      metrics with intervals, differences between networks
machine      what computes here, which commit, how long
places       what a training in progress keeps, whole whenever it is cut off
runs         a training is done once, resumed, kept, found again
boards       TensorBoard's files
predictions  predictions are made once and kept; looks at a test set are logged
report       tables and sentences
plots        figures
diagrams     drawings of networks
"""

import importlib.util
import logging
import os
import sys

if sys.version_info < (3, 11) or importlib.util.find_spec("tensorflow") is None:
    sys.exit(
        "This Python {}.{} lacks TensorFlow, or is too old (3.11 to 3.13 are "
        "supported): use the environment that `make run` or the README's commands "
        "make, in Jupyter as the notebook's kernel.".format(*sys.version_info)
    )
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
# Errors (40) alone: in notebooks TensorFlow sets its logger's own level.
logging.getLogger("tensorflow").addFilter(lambda note: note.levelno >= 40)
if "ipykernel" in sys.modules:  # TensorFlow 2.21 writes a note whatever the level is
    shown = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    importlib.import_module("tensorflow")
    os.dup2(shown, 2)
