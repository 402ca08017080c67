"""What one notebook alone needs, on top of ``facekit``.

Each module imports ``facekit`` and modules above it:

calibration  who is it wrong about: whether stated probabilities are right
groups       who is it wrong about: errors by what pictures were labelled as
attention    who is it wrong about: what an answer depends on in the picture
framing      gender recognition: faces framed anew
gender       gender recognition: networks shown, trials compared, the gap explained
"""
