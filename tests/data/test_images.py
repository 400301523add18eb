"""Every way in which a source can be stored or be bad: a sentence, or the right picture."""

import base64
import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import datasets
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from arr_trl.data import (
    RowError,
    check_image,
    check_sources,
    decode_columns,
    decode_sources,
    load_image,
    load_prompts,
    read_rows,
    sources_digest,
    undecoded,
)


RED, WHITE = (200, 30, 40), (255, 255, 255)


def picture(size=(16, 12), mode="RGB", color=RED):
    return Image.new(mode, size, color)


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture
def served(tmp_path):
    """Address of a server of `tmp_path`."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_every_way_to_store_a_picture_gives_the_same_one(tmp_path, served):
    data = encoded(picture())
    (tmp_path / "a b.png").write_bytes(data)
    path = str(tmp_path / "a b.png")
    for value in (
        picture(), data, path, tmp_path / "a b.png", {"bytes": data, "path": None}, {"bytes": None, "path": path},
        f"{served}/a%20b.png",
    ):  # fmt: skip
        loaded = load_image(value)
        assert (loaded.mode, loaded.size, loaded.getpixel((3, 3))) == ("RGB", (16, 12), RED)


def test_several_references_are_a_list(tmp_path):
    first, second = load_image([picture(), encoded(picture((12, 30)))])
    assert (first.size, second.size) == ((16, 12), (12, 30))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (picture(mode="RGBA", color=(0, 0, 0, 0)), WHITE),
        (picture(mode="RGBA", color=(200, 0, 0, 127)), (228, 128, 128)),
        (picture(mode="LA", color=(0, 0)), WHITE),
        (picture(mode="L", color=90), (90, 90, 90)),
        (picture().convert("P"), None),
        (picture(mode="1", color=1), WHITE),
        (picture(mode="CMYK", color=(0, 255, 255, 0)), (255, 0, 0)),
        (Image.fromarray(np.full((12, 16), 90 * 257, np.uint16)), (90, 90, 90)),
    ],
    ids=["transparent", "half transparent", "grey with alpha", "grey", "palette", "bits", "cmyk", "16 bits"],
)
def test_modes_become_rgb(stored, expected):
    for value in (stored, encoded(stored, "TIFF")):
        loaded = load_image(value)
        assert loaded.mode == "RGB"
        assert loaded.getpixel((2, 2)) == (expected or stored.convert("RGB").getpixel((2, 2)))


def test_palette_with_transparency_is_laid_on_white():
    image = Image.new("P", (16, 12), 0)
    image.putpalette([10, 20, 30])
    assert load_image(encoded(image, transparency=0)).getpixel((2, 2)) == WHITE


def test_exif_rotation_is_applied():
    image = picture((16, 12))
    image.paste((0, 0, 255), (0, 0, 16, 6))  # blue above
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise to see it upright
    loaded = load_image(encoded(image, "JPEG", exif=exif, quality=95))
    assert loaded.size == (12, 16)
    assert loaded.getpixel((10, 8))[2] > 220 > loaded.getpixel((1, 8))[0] > 150


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "there is none"),
        ([], "empty list"),
        (3.5, "a float is no picture"),
        (b"not a picture", "cannot be read as a picture"),
        ("missing.png", r"'missing\.png' cannot be read as a picture \(FileNotFoundError"),
        (encoded(picture((1, 1))), "has 1 × 1 pixels"),
        (encoded(picture((10_000, 10_000), "1", 0)), "has 10000 × 10000 pixels"),
        (encoded(picture((20_000, 20_000), "1", 0)), "too large"),
        (encoded(picture((8, 1000))), "has 8 × 1000 pixels; one side may be 100 times"),
        (encoded(picture((64, 64)))[:-40], "is broken"),
        (encoded(picture((640, 640)).effect_spread(50), "JPEG")[:2000], "is broken"),
    ],
    ids=["none", "no references", "number", "text", "missing", "1x1", "large", "bomb", "strip", "cut png", "cut jpeg"],
)  # fmt: skip
def test_bad_pictures_are_told_in_a_sentence(value, message):
    with pytest.raises(ValueError, match=message):
        load_image(value)
    if "broken" not in message:
        with pytest.raises(ValueError, match=message):
            check_image(value)


FLOATS = Image.fromarray(np.linspace(0, 1, 192, dtype=np.float32).reshape(12, 16))
INTEGERS = Image.fromarray(np.full((12, 16), 90, np.int32))
NO_PICTURES = {
    "fractions": (encoded(FLOATS, "TIFF"), r"holds fractions, and nothing says which of them is white; save it with 8 or 16"),
    "fractions in memory": (FLOATS, "holds fractions"),
    "32 bits": (encoded(INTEGERS, "TIFF"), "holds numbers of 32 bits"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "pointer of Git LFS .* `git lfs pull`"),
    "annex": (b"/annex/objects/SHA256E-s1--00.png\n", "pointer of git-annex"),
    "empty": (b"", "it is empty"),
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), r"it is HEIC, AVIF or a film \(`heic`\)"),
    "SVG": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "it is SVG, which has no pixels"),
    "an error of a store": (b"<Error>AccessDenied</Error>", "it begins with b'<Error>AccessDen"),
    "data URL": ("data:image/png;base64," + "A" * 400_000, "the data URL 'data:image/png;base64,AAA.*begins with"),
    "data URL of no base64": ("data:image/png;base64,%%%", "it is no base64"),
    "base64 alone": ("iVBORw0KGgo" * 40_000, r"'iVBORw0KGgo.*File name too long"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_PICTURES)
def test_what_is_no_picture_is_told_by_what_it_is_in_a_short_sentence(case):
    value, words = NO_PICTURES[case]
    for look in (load_image, check_image):
        with pytest.raises(ValueError, match=words) as told:
            look(value)
        assert "0x" not in str(told.value)
        assert len(str(told.value)) < 400


@pytest.mark.parametrize("white", [65535, 218, 90])
def test_a_dark_picture_of_16_bits_stays_dark(white):
    grey = Image.fromarray(np.full((12, 16), white, np.uint16))
    for value in (grey, encoded(grey, "PNG"), encoded(grey, "TIFF"), encoded(grey, "PPM")):
        assert load_image(value).getpixel((2, 2)) == (white // 257,) * 3


def test_a_picture_is_read_from_a_data_url(tmp_path):
    data = base64.b64encode(encoded(picture())).decode()
    for url in (f"data:image/png;base64,{data}", f"DATA:image/png;charset=x;base64,{data.replace('+', '%2B')}"):
        assert load_image(url).getpixel((3, 3)) == RED
        check_image(url)
    (tmp_path / "edits.jsonl").write_text(f'{{"prompt": "make it red", "source_image": "{url}"}}\n')
    (row,) = decode_sources(list(undecoded(load_prompts(str(tmp_path / "edits.jsonl")))))
    assert row["source_image"].size == (16, 12)


def test_url_without_a_picture_is_told(served):
    with pytest.raises(ValueError, match=r"nothing\.png' cannot be read as a picture"):
        load_image(f"{served}/nothing.png")


def test_rows_without_a_usable_source_are_named_before_training():
    good = {"prompt": "make it red", "source_image": encoded(picture())}
    for bad, message in ((None, "there is none"), (b"text", "cannot be read"), (encoded(picture((1, 1))), "1 × 1")):
        dataset = Dataset.from_list([good, {"prompt": "remove it", "source_image": bad}])
        with pytest.raises(ValueError, match=f"Row 1 of train_dataset has a `source_image` .*{message}"):
            check_sources(dataset, "train_dataset")
    with pytest.raises(ValueError, match=r"no `source_image` column, only 'prompt', .*`source_column`"):
        check_sources(Dataset.from_list([{"prompt": "remove it"}]), "train_dataset")
    with pytest.raises(ValueError, match="no `source_image` column"):
        check_sources(Dataset.from_list([{"prompt": "remove it"}]).to_iterable_dataset(), "train_dataset")


def test_rows_without_a_usable_mask_are_named_before_training():
    rows = [{"prompt": "make it red", "source_image": encoded(picture()), "mask_image": bad} for bad in (None, b"x")]
    for row, message in zip(rows, ("there is none", "cannot be read"), strict=True):
        with pytest.raises(ValueError, match=f"Row 0 of train_dataset has a `mask_image` .*{message}"):
            check_sources(Dataset.from_list([row]), "train_dataset", column="mask_image")
    with pytest.raises(
        ValueError, match=r"no `mask_image` column, .* draws a part of them anew, which is white there"
    ):
        check_sources(Dataset.from_list([{"prompt": "remove it"}]), "train_dataset", column="mask_image")


def test_of_many_sources_some_are_looked_at_the_first_and_the_last_among_them():
    looked = []
    dataset = Dataset.from_dict({"source_image": [str(i) for i in range(1000)]})
    check_sources(dataset, "train_dataset", looked.append, at_most=4)
    assert looked == ["0", "333", "666", "999"]
    for count in (1, 3):
        looked.clear()
        check_sources(dataset.select(range(count)), "train_dataset", looked.append, at_most=4)
        assert looked == [str(i) for i in range(count)]

    def refuse(path):
        if path == "666":
            raise ValueError("it is empty")

    with pytest.raises(ValueError, match="Row 666 of train_dataset"):
        check_sources(dataset, "train_dataset", refuse, at_most=4)


def test_broken_picture_of_an_image_column_is_a_sentence_with_its_prompt():
    features = datasets.Features({"prompt": datasets.Value("string"), "source_image": datasets.Image()})
    rows = [{"prompt": "remove it", "source_image": {"bytes": encoded(picture())[:-30], "path": None}}]
    dataset = undecoded(Dataset.from_list(rows, features=features))
    check_sources(dataset, "train_dataset")  # the header is whole
    with pytest.raises(ValueError, match=r"prompt 'remove it' has a `source_image` that cannot be used: .*broken"):
        decode_sources([dataset[0]])
    assert not issubclass(RowError, ValueError)


@pytest.mark.parametrize("streaming", [False, True])
def test_image_columns_arrive_as_rgb(streaming):
    for source in (picture(mode="RGBA", color=(0, 0, 0, 0)), [picture(mode="L", color=9), picture()]):
        dataset = Dataset.from_list([{"prompt": "edit", "source_image": source}])
        dataset = undecoded(dataset.to_iterable_dataset() if streaming else dataset)
        (row,) = decode_sources(list(dataset))
        found = row["source_image"] if isinstance(source, list) else [row["source_image"]]
        assert [image.mode for image in found] == ["RGB"] * len(found)
        assert len(found) == (2 if isinstance(source, list) else 1)


@pytest.mark.parametrize("streaming", [False, True])
def test_paths_in_a_file_are_relative_to_the_file(tmp_path, streaming):
    (tmp_path / "pictures").mkdir()
    picture().save(tmp_path / "pictures" / "a.png")
    (tmp_path / "edits.jsonl").write_text('{"instruction": "make it red", "base": "pictures/a.png"}\n')
    dataset = load_prompts(
        str(tmp_path / "edits.jsonl"), prompt_column="instruction", source_column="base", streaming=streaming
    )
    (row,) = decode_sources(list(undecoded(dataset)))
    assert row["source_image"].size == (16, 12)


def with_masks():
    masks = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (0, 100, 200)]
    features = {"prompt": datasets.Value("string"), "source_image": datasets.Image(), "mask": datasets.Image()}
    rows = {"prompt": list("abc"), "source_image": masks, "mask": masks}
    return Dataset.from_dict(rows, features=datasets.Features(features)), masks


def test_rows_are_read_as_they_are_stored_and_decoded_as_the_dataset_does_it():
    dataset, masks = with_masks()
    stored = read_rows(dataset, [2, 0])
    assert [row["prompt"] for row in stored] == ["c", "a"]
    assert all(row[name]["bytes"].startswith(b"\x89PNG") for row in stored for name in ("source_image", "mask"))
    decoded = decode_columns(stored, dataset)
    assert [row["mask"].tobytes() for row in decoded] == [masks[2].tobytes(), masks[0].tobytes()]
    assert decoded[0]["source_image"] == stored[0]["source_image"]  # that of `decode_sources`


def test_columns_and_transforms_that_a_user_chose_stay_so():
    dataset, masks = with_masks()
    (row,) = read_rows(dataset.with_format(columns=["prompt", "mask"]), [1])
    assert sorted(row) == ["mask", "prompt"]
    assert decode_columns([row], dataset)[0]["mask"].tobytes() == masks[1].tobytes()
    own = dataset.with_transform(lambda batch: {"prompt": batch["prompt"], "size": [m.size for m in batch["mask"]]})
    rows = read_rows(own, [1])
    assert decode_columns(rows, own) == rows == [{"prompt": "b", "size": (32, 32)}]


def test_pictures_of_other_masks_are_others():
    image, other = (Image.new("RGB", (8, 8), color) for color in ("black", "white"))
    rows = [{"prompt": "a", "source_image": image, "mask_image": image}]
    assert sources_digest(rows) != sources_digest([rows[0] | {"mask_image": other}])
    assert sources_digest(rows) == sources_digest([rows[0] | {"mask_image": image.copy()}])
