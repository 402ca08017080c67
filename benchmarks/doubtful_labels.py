"""Where networks that have not seen a picture contradict its label.

    python benchmarks/doubtful_labels.py

The soft labels of the main network (`model/utkface/soft_labels.npz`: twenty networks; a
picture is answered by those that have not learned from it) against the labels of the
training pictures: gender by age, ethnicity by ethnicity. Needs the assignment's data.
"""

import pathlib
import sys

import numpy as np
import pandas as pd

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from facekit import dataset, labels, predictions, report, sources  # noqa: E402

AGES = {"0–2": 0, "3–12": 3, "13–19": 13, "20–59": 20, "60 and over": 60}


def share(label: pd.Series, groups: pd.Series) -> pd.DataFrame:
    """By group: labels that are met, and those of small and of middling probability."""
    columns = {
        "Label met (%)": label["most"],
        "Its probability below 0.1 (%)": label["own"] < 0.1,
        "0.3 to 0.7 (%)": label["own"].between(0.3, 0.7),
    }
    found = pd.DataFrame(columns).groupby(groups, observed=True)
    table = (100 * found.mean()).map("{:.1f}".format)
    table.insert(0, "Pictures", found.size().map("{:,}".format))
    return table.reset_index(names="Labelled")


def main() -> None:
    """Print both tables."""
    source = sources.find_source("auto", labels.DATA)
    data = dataset.load(source.folder, source.synthetic)
    if data.name != "utkface":
        sys.exit(
            "Soft labels are known for the assignment's data alone (data/README.md)."
        )
    train = data.rows("train")
    soft = predictions.soften(train, share=1)
    female, five = soft["gender"].to_numpy(), np.stack(soft["ethnicity"])
    own = np.where(train["gender"] == 1, female, 1 - female)
    gender = pd.DataFrame({"own": own, "most": own > 0.5}, train.index)
    code = train["ethnicity"].to_numpy(int)
    own = five[np.arange(len(five)), code]
    ethnicity = pd.DataFrame({"own": own, "most": five.argmax(1) == code}, train.index)
    starts = [*AGES.values(), np.inf]
    band = pd.cut(train["age"], starts, right=False, labels=[*AGES])
    print("Gender, by age:")
    print(report.as_markdown(share(gender, band)))
    print("Ethnicity:")
    named = train["ethnicity"].map(dict(enumerate(labels.ETHNICITIES)))
    print(report.as_markdown(share(ethnicity, named)))


if __name__ == "__main__":
    main()
