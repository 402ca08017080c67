"""What `predict.py` is made of: pictures in, faces found, answers out.

The modules stand in the order in which pictures flow, as in ``facekit``:

inputs       the pictures that files, folders and CSV files name, one after the other
faces        faces in a photograph, found and framed as the training pictures are
framing      whether a picture looks like one upright face that fills it
trust        what a picture's detail says about an answer's error
predictor    a shipped network, or the user's, with what its answers need
drawing      answers drawn into a photograph
"""

import facekit  # noqa: F401  first: it says what is missing
