"""Images of one set found in another: by their pixels, and by their look."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import source_files as files
from PIL import Image
from source_files import Marks

from earl.cli import main
from earl.config.data import PreparationSettings
from earl.data.overlap import Fingerprint, exact_hash, find_overlap, fingerprints, look_hash
from earl.data.prepare import prepare_source
from earl.data.sources.opening import open_source
from earl.errors import DataError
from earl.world.shards import WorldData, prepare_world

SMALL = PreparationSettings(area=32 * 32)


def bits_apart(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def smooth(number: int) -> Image.Image:
    """Noise with the spectrum of a photograph: every octave half as strong as the one below."""
    rng = np.random.default_rng(number)
    levels = np.full((120, 160, 3), 128.0)
    for octave in range(1, 6):
        noise = Image.fromarray(rng.integers(0, 256, (2**octave, 2**octave, 3), np.uint8))
        fine = np.asarray(noise.resize((160, 120), Image.Resampling.BICUBIC), float) - 128
        levels += fine / 2 ** (octave - 1)
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def test_the_exact_hash_is_of_size_and_pixels():
    image = files.picture(1)
    assert exact_hash(image) == exact_hash(Image.open(io.BytesIO(files.png(image))).convert("RGB"))
    other = image.copy()
    other.putpixel((5, 5), (1, 2, 3))
    assert exact_hash(other) != exact_hash(image)
    flat = Image.new("RGB", (4, 2))
    assert exact_hash(flat) != exact_hash(Image.new("RGB", (2, 4)))
    assert len(exact_hash(flat)) == 32


def test_the_look_survives_what_copies_go_through_and_nothing_else():
    for number in range(6):
        image = smooth(number)
        look = look_hash(image)
        assert bits_apart(look, look_hash(image.resize((80, 60), Image.Resampling.BICUBIC))) <= 4
        assert bits_apart(look, look_hash(jpeg(image, 40))) <= 4
        assert bits_apart(look, look_hash(image.point(lambda level: level * 0.9 + 5))) <= 4
        apart = [bits_apart(look, look_hash(smooth(other))) for other in range(6, 20)]
        assert min(apart) > 12
    assert look_hash(Image.new("RGB", (50, 50), (9, 90, 200))) == ""


def test_nearest_by_hand():
    def mark(name: str, look: str, exact: str = "") -> Fingerprint:
        return Fingerprint(name, "source", exact or name, look)

    train = [
        mark("far", "f" * 16),
        mark("one", "0" * 15 + "1"),
        mark("flat", ""),
        mark("same", "a" * 16, "x"),
    ]
    found = find_overlap(
        train, [mark("e0", "0" * 16), mark("e1", "0" * 15 + "7"), mark("e2", "", "x"), mark("e3", "")], bits=1
    )
    assert [(m.evaluation.id, m.train.id, m.kind, m.distance) for m in found] == [
        ("e0", "one", "near", 1),
        ("e2", "same", "exact", 0),
    ]
    assert [m.evaluation.id for m in find_overlap(train, [mark("e1", "0" * 15 + "7")], bits=2)] == ["e1"]
    assert find_overlap([], [mark("e", "0" * 16)]) == []


@pytest.fixture
def two_sets(tmp_path):
    """Training data with images 0-9; a benchmark with copies of 2 (its pixels), of 4 (smaller, as a
    JPEG), and two images of its own."""
    train, bench = tmp_path / "train-files", tmp_path / "bench-files"
    rows = []
    for number in range(10):
        files.save(smooth(number), train / f"{number}.png")
        rows.append({"id": f"t{number}", "source": f"{number}.png", "instruction": "x"})
    (train / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files.save(smooth(2), bench / "a.bmp")
    files.save(jpeg(smooth(4).resize((100, 75)), 50), bench / "b.png")
    files.save(smooth(50), bench / "c.png")
    files.save(smooth(51), bench / "d.png")
    rows = [{"id": f"b-{n}", "source": n, "instruction": "x"} for n in ("a.bmp", "b.png", "c.png", "d.png")]
    (bench / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("train", "bench"):
        prepare_source(open_source(str(tmp_path / f"{name}-files")), tmp_path / name, Marks(), SMALL)
    return tmp_path


def test_prepared_sets_and_folders_of_images_say_the_same(two_sets):
    for train in ("train", "train-files"):
        for bench in ("bench", "bench-files"):
            found = find_overlap(fingerprints(two_sets / train), fingerprints(two_sets / bench))
            assert [(m.kind, m.evaluation.id.removeprefix("b-")) for m in found] == [
                ("exact", "a.bmp"),
                ("near", "b.png"),
            ]
            assert [m.train.id.strip("t").split(".")[0] for m in found] == ["2", "4"]


def test_the_command_names_them_and_leaves_with_1(two_sets, capsys):
    out = two_sets / "overlap.json"
    assert (
        main(["data", "check-overlap", str(two_sets / "train"), str(two_sets / "bench"), "-o", str(out)]) == 1
    )
    said = capsys.readouterr().out
    assert "2 of 4 evaluation images are among 10 training images: 1 with the same pixels" in said
    assert "b-a.bmp (source) is t2 (source), same pixels" in said
    entries = json.loads(out.read_text())
    assert [entry["kind"] for entry in entries] == ["exact", "near"]
    assert entries[0]["train"] == {"id": "t2", "side": "source"}
    assert (
        main(["data", "check-overlap", str(two_sets / "train"), str(two_sets / "bench"), "-o", str(out)]) == 2
    )
    assert "exists already" in capsys.readouterr().err


def test_without_overlap_it_leaves_with_0(two_sets, tmp_path, capsys):
    files.save(smooth(70), tmp_path / "others" / "x.png")
    (tmp_path / "others" / "torn.png").write_bytes(b"no image")
    assert main(["data", "check-overlap", str(two_sets / "train"), str(tmp_path / "others")]) == 0
    assert "0 of 1 evaluation images" in capsys.readouterr().out


def test_targets_count_too(tmp_path):
    files.own_folder(tmp_path / "own", 3)
    prepare_source(open_source(str(tmp_path / "own")), tmp_path / "out", Marks(), SMALL)
    files.save(files.picture(1, edited=True), tmp_path / "bench" / "x.png")
    (match,) = find_overlap(fingerprints(tmp_path / "out"), fingerprints(tmp_path / "bench"), bits=0)
    assert (match.train.id, match.train.side, match.kind) == ("own-1", "target", "exact")


def test_what_has_no_fingerprints_is_refused(tmp_path):
    class Encoder(Marks):
        def encode(self, images, resize=True):
            return [np.zeros((8, 8), np.int32) for _ in images]

    prepare_world(tmp_path / "world", Encoder(), WorldData(sources=1))
    with pytest.raises(DataError, match="source_hash"):
        fingerprints(tmp_path / "world")
    with pytest.raises(DataError, match="neither prepared shards nor image files"):
        fingerprints(tmp_path / "nowhere")
