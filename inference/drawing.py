"""Answers drawn into a photograph."""

from PIL import Image, ImageDraw, ImageFont

from facekit.labels import ETHNICITIES
from inference.predictor import PLACE


def draw_answers(image: Image.Image, rows: list[dict]) -> Image.Image:
    """Draw each face's square and answer into a photograph."""
    image = image.copy()
    pen = ImageDraw.Draw(image)
    height = max(12, max(image.size) // 60)
    font = ImageFont.load_default(height)
    for row in rows:
        side = row.get("side", min(image.size) - 1)
        middle = [(length - side) // 2 for length in image.size]
        left, top = (row.get(*pair) for pair in zip(PLACE, middle, strict=False))
        box = [left, top, left + side, top + side]
        pen.rectangle(box, outline="yellow", width=max(1, height // 8))
        lines = []
        if "age" in row:
            lines.append(f"age {row['age']:.0f}")
            if "age_low" in row:
                lines[0] += f" ({row['age_low']:.0f} to {row['age_high']:.0f})"
        if "female" in row:
            likely = max(row["female"], 1 - row["female"])
            label = "female" if row["female"] >= 0.5 else "male"
            lines.append(f"label {label} {100 * likely:.0f} %")
        if ETHNICITIES[0] in row:
            label = max(ETHNICITIES, key=row.get)
            lines.append(f"label {label} {100 * row[label]:.0f} %")
        lines += [row["note"].partition(":")[0]] * bool(row["note"])  # warning, error
        text = "\n".join(lines)
        *_, width, depth = pen.multiline_textbbox((0, 0), text, font)
        room = image.width - width, image.height - depth
        place = max(0, min(left, room[0])), max(0, min(top + side, room[1]))
        around = pen.multiline_textbbox(place, text, font)
        pen.rectangle(around, fill="black")
        pen.multiline_text(place, text, "yellow", font)
    return image
