"""Faces in photographs: found, framed, refused; what detail says about the error."""

import json
import sys

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest

from facekit import labels
from inference import drawing, faces, inputs, predictor, trust

SHIPPED = labels.MODELS / "utkface"
TRUST = json.loads((SHIPPED / "trust.json").read_text(encoding="utf-8"))
FRAME = np.array(TRUST["frame"])
LEVELS = [*next(iter(TRUST["networks"].values()))["check"]]
WITH_AGE = [name for name, told in TRUST["networks"].items() if "age_intervals" in told]


@pytest.fixture(scope="module")
def portraits(sample):
    """Give 12 synthetic faces of 200 pixels, RGB."""
    images = map(PIL.Image.fromarray, sample.images[:12])
    how = (200, 200), PIL.Image.Resampling.LANCZOS
    return [image.convert("RGB").resize(*how) for image in images]


@pytest.fixture(scope="module")
def finder():
    """Give the finder, whose networks take a second to read."""
    return faces.Finder()


@pytest.fixture(scope="module")
def network():
    """Give the main network with all that `predict.py` knows of it."""
    return predictor.Predictor(predictor.find_model("mtl"))


def paste(portrait, size, place, turn=0, canvas=(640, 480)):
    """Paste a face into a grey-green scene, turned clockwise."""
    scene = PIL.Image.new("RGB", canvas, (110, 130, 115))
    face = portrait.resize((size, size), PIL.Image.Resampling.LANCZOS)
    how = {"resample": PIL.Image.Resampling.BICUBIC, "fillcolor": (110, 130, 115)}
    scene.paste(face.rotate(-turn, **how), place)
    return scene


class TestFinder:
    def test_faces_are_found_where_they_are(self, finder, portraits):
        hits = 0
        for number, portrait in enumerate(portraits):
            size, place = 60 + 15 * number, (20 * number, 10 * number)
            found = finder.find(paste(portrait, size, place))
            for points in found:
                left, top, side, turn = faces.locate(points, FRAME)
                off = np.abs([left - place[0], top - place[1], side - size]) / size
                hits += off.max() < 0.15 and abs(turn) < 8
            assert len(found) <= 1
        assert hits >= 11

    def test_each_of_several_the_largest_first(self, finder, portraits):
        scene = paste(portraits[0], 90, (40, 60))
        scene.paste(portraits[1], (300, 150))
        found = [faces.locate(points, FRAME) for points in finder.find(scene)]
        assert [face[2] for face in found] == pytest.approx([200, 90], rel=0.15)

    def test_a_turned_face_is_set_upright(self, finder, portraits):
        (points,) = finder.find(paste(portraits[2], 200, (200, 100), turn=20))
        assert faces.locate(points, FRAME)[3] == pytest.approx(20, abs=5)

    def test_a_large_photograph_is_searched_smaller(self, finder, portraits):
        scene = paste(portraits[0], 1600, (900, 500), canvas=(4000, 3000))
        (points,) = finder.find(scene)
        assert faces.locate(points, FRAME)[2] == pytest.approx(1600, rel=0.15)
        assert faces.cut_out(scene, points, FRAME).width <= 2 * faces.FINEST

    def test_without_its_package_the_finder_says_so(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mtcnn", None)
        with pytest.raises(ValueError, match="pip install mtcnn .* or say --crop"):
            faces.Finder()

    @pytest.mark.parametrize("size", [(200, 100), (12, 9), (1, 1)])
    def test_nothing_is_found_where_nothing_is(self, finder, size):
        assert finder.find(PIL.Image.new("RGB", size, (90, 90, 90))) == []


class TestFraming:
    @pytest.mark.parametrize("turn", [0, 30, -90])
    @pytest.mark.parametrize("side", [30, 200, 1000])
    def test_what_is_cut_out_is_what_was_put_in(self, portraits, side, turn):
        """Of four marks, whose places are known, the corners' colours come back."""
        image = np.zeros((2000, 2000, 3), "uint8") + 50
        y, x = np.mgrid[:2000, :2000] - 1000
        angle = np.radians(turn)
        right = x * np.cos(angle) + y * np.sin(angle)
        down = -x * np.sin(angle) + y * np.cos(angle)
        inside = (abs(right) < side / 2) & (abs(down) < side / 2)
        image[inside & (right > 0)] += 100  # the face's left half stays darker
        image[inside & (down > 0)] += 50
        unit = FRAME - 0.5
        turned = unit @ [
            [np.cos(angle), np.sin(angle)],
            [-np.sin(angle), np.cos(angle)],
        ]
        points = turned * side + 1000
        left, top, width, degrees = faces.locate(points, FRAME)
        assert [left, top, width] == pytest.approx([1000 - side / 2] * 2 + [side])
        assert degrees == pytest.approx(turn)
        cut = np.asarray(faces.cut_out(PIL.Image.fromarray(image), points, FRAME))
        at = [cut.shape[0] // 4, -cut.shape[0] // 4]
        assert cut[at[0], at[0], 0] == pytest.approx(50, abs=3)
        assert cut[at[0], at[1], 0] == pytest.approx(150, abs=3)
        assert cut[at[1], at[0], 0] == pytest.approx(100, abs=3)
        assert cut[at[1], at[1], 0] == pytest.approx(200, abs=3)

    def test_beyond_the_edge_the_edge_is_repeated(self):
        image = PIL.Image.new("RGB", (100, 100), (200, 10, 10))
        cut = np.asarray(faces.cut_out(image, FRAME * 100 - 40, FRAME))
        assert cut.shape == (100, 100, 3) and (cut == [200, 10, 10]).all()

    def test_a_picture_that_is_framed_already(self):
        assert faces.fills(FRAME * 200, FRAME, (200, 200))
        assert faces.fills(FRAME * 190 + 12, FRAME, (200, 220))
        for points in (FRAME * 100 + 50, FRAME * 200 + 60, FRAME[:, ::-1] * 200):
            assert not faces.fills(points, FRAME, (200, 200))


class TestPredictor:
    def test_a_row_for_each_face_with_its_place(self, network, portraits):
        scene = paste(portraits[0], 90, (40, 60))
        scene.paste(portraits[1], (300, 150))
        found = network.find_faces(scene)
        assert [face.place[2] for face in found] == pytest.approx([200, 90], rel=0.15)
        alone = network.answer([portraits[1]])[0]["age"]
        assert network.answer([found[0].image])[0]["age"] == pytest.approx(alone, abs=6)

    def test_a_picture_that_a_face_fills_is_taken_as_it_is(self, network, portraits):
        (face,) = network.find_faces(portraits[0])
        assert face.place == () and face.image.tobytes() == portraits[0].tobytes()

    def test_crop_looks_for_no_faces(self, network, portraits):
        scene = paste(portraits[0], 90, (40, 60))
        (face,) = network.find_faces(scene, crop=True)
        assert face.place == () and face.image.size == (480, 480)

    def test_where_no_face_is_the_row_says_what_to_do(self, network):
        noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), "uint8")
        with pytest.raises(ValueError, match="no face was found: crop .* --crop"):
            network.find_faces(PIL.Image.fromarray(noise))

    def test_too_few_pixels_are_refused(self, network, portraits):
        least = TRUST["networks"]["mtl"]["least_pixels"]
        small = portraits[0].resize((least - 1, least - 1))
        (face,) = network.find_faces(small)
        assert f"{least - 1} pixels across, at least {least}" in network.refusal(face)
        (face,) = network.find_faces(portraits[0].resize((least, least)))
        assert not network.refusal(face)

    def test_blur_and_few_pixels_widen_the_interval_and_are_warned_of(
        self, network, portraits
    ):
        blurred = [image.filter(PIL.ImageFilter.GaussianBlur(8)) for image in portraits]
        small = [image.resize((12, 12)) for image in portraits]
        sharp, *others = (network.answer(part) for part in (portraits, blurred, small))
        width = [row["age_high"] - row["age_low"] for row in sharp]
        for rows in others:
            wider = [row["age_high"] - row["age_low"] for row in rows]
            assert np.mean(wider) > 1.5 * np.mean(width)
            assert all("use a sharper or larger picture" in row["note"] for row in rows)

    def test_answers_are_drawn_into_the_photograph(self, network, portraits):
        scene = paste(portraits[0], 200, (200, 100))
        rows = [{"left": 200, "top": 100, "side": 200, "note": ""}]
        rows[0] |= network.answer([portraits[0]])[0]
        drawn = np.asarray(drawing.draw_answers(scene, rows)).astype(int)
        changed = np.abs(drawn - np.asarray(scene)).sum(axis=2) > 100
        assert changed[100, 200:400].all() and changed[100:300, 200].all()
        assert not changed[:90].any() and changed[200:, 210:390].sum() > 500


class TestDetail:
    def test_blur_and_fewer_pixels_lower_it(self, portraits):
        told = TRUST["networks"]["mtl"]
        sizes = [48, 32, 24, 16, 12]

        def look(image):
            shown = image.convert("L").resize((48, 48), PIL.Image.Resampling.LANCZOS)
            return trust.detail(np.asarray(shown)[None], told["detail"])[0]

        for image in portraits:
            values = [look(image.resize((size, size))) for size in sizes]
            assert values[0] > values[2] > values[4]
        assert np.mean(values) == pytest.approx(np.mean(np.log2(sizes)), abs=0.7)

    @pytest.mark.parametrize("name", WITH_AGE)
    def test_intervals_cover_nine_of_ten_at_each_level(self, name):
        """At most five points off, but for the worst blur, on pictures that fitted no
        interval: 1,897 for networks of 48×48, 800 or 400 for the others.
        """
        for level, seen in TRUST["networks"][name]["check"].items():
            assert 0.85 <= seen["coverage"] <= 0.95 or level == "blur 8", level

    def test_every_shipped_network_is_known(self):
        shipped = {path.stem for path in SHIPPED.glob("*/*.keras")}
        assert set(TRUST["networks"]) == shipped

    @pytest.mark.parametrize(
        "path", [*SHIPPED.glob("*/*.keras")], ids=lambda path: path.stem
    )
    def test_every_shipped_network_answers(self, path, portraits):
        network = predictor.Predictor(path)
        (answer,) = network.answer(portraits[:1])
        assert ["file", *predictor.PLACE, *answer] == network.columns
        assert answer["note"] == ""

    @pytest.mark.parametrize("name", TRUST["networks"])
    def test_a_warning_separates_or_is_not_shown(self, name):
        told = TRUST["networks"][name]
        if told["least_score"] is not None:
            framing = told["framing"]
            assert framing["grown"] >= 1.5 and framing["aligned_warned"] <= 0.051
        if told["least_detail"] is not None:
            plain = told["check"]["untouched"]
            assert plain["warned"] < 0.1 < 0.7 < told["check"]["blur 8"]["warned"]
            for level, seen in told["check"].items():
                grown = max(seen[t] / plain[t] for t in labels.LABELS if t in plain)
                assert grown >= 1.5 or seen["warned"] < 0.5, level


def test_the_script_answers_and_draws(tmp_path, portraits, capsys):
    import predict

    paste(portraits[0], 150, (200, 100)).save(tmp_path / "holiday.png")
    PIL.Image.new("RGB", (300, 300), (9, 9, 9)).save(tmp_path / "empty.png")
    paths = [str(tmp_path / name) for name in ("holiday.png", "empty.png")]
    status = predict.main([*paths, "--output", "json", "--draw", str(tmp_path / "out")])
    holiday, empty = json.loads(capsys.readouterr().out)
    assert status == 1 and "no face was found" in empty["note"]
    assert holiday["side"] == pytest.approx(150, rel=0.15)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0001_holiday.jpg"]
    assert inputs.open_picture(tmp_path / "out/0001_holiday.jpg").size == (640, 480)


def test_one_failure_costs_no_other_row(
    network, tmp_path, portraits, monkeypatch, capsys
):
    import predict

    monkeypatch.setattr(network, "answer", lambda images: 1 / 0)
    sources = [("a", np.zeros((48, 48), "uint8")), ("b", OSError("gone"))]
    rows = list(predict.predict(network, sources, 8, draw=tmp_path / "nowhere"))
    assert [row["note"] for row in rows] == ["error: division by zero", "error: gone"]
    assert "a not drawn: no such file or folder" in capsys.readouterr().err


def test_what_is_drawn_is_not_looked_at_again(tmp_path, capsys):
    import predict

    folder = tmp_path / "drawn"
    assert predict.main([str(tmp_path), "--draw", str(folder)]) == 2
    assert "choose a folder that is not in" in capsys.readouterr().err


def test_weights_in_the_current_folder_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pnet", "rnet", "onet"):
        (tmp_path / f"{name}.lz4").write_bytes(b"anybody's")
    assert faces.Finder().find(PIL.Image.new("RGB", (60, 60))) == []


def test_a_picture_that_cannot_be_read_is_a_row(tmp_path):
    (tmp_path / "phone.HEIC").write_bytes(b"x")
    ((name, fault),) = inputs.find_pictures([str(tmp_path)])
    assert name.endswith("phone.HEIC") and "save it as JPEG" in str(fault)
