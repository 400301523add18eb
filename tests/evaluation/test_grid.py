import pytest
from PIL import Image

from arr_trl.evaluation import save_samples
from arr_trl.evaluation.grid import _BEST, _wrapped


RED, BLUE, GREEN = ((200, 0, 0), (0, 0, 200), (0, 200, 0))


def plain(color, size=(32, 32)):
    return Image.new("RGB", size, color)


def colors_of(path):
    image = Image.open(path)
    return {color: count for count, color in image.getcolors(maxcolors=image.width * image.height)}


def test_tiny_pictures_are_enlarged_without_new_colors(tmp_path):
    save_samples(tmp_path / "samples.png", ["a"], {"base": [plain(RED)], "trained": [plain(BLUE)]})
    colors = colors_of(tmp_path / "samples.png")
    assert colors[RED] == colors[BLUE] == 160 * 160


def test_large_pictures_are_made_smaller(tmp_path):
    large = {"base": [plain(RED, (1024, 512))], "trained": [plain(BLUE, (1024, 512))]}
    save_samples(tmp_path / "samples.png", ["a"], large)
    assert colors_of(tmp_path / "samples.png")[RED] == 320 * 160


def test_pictures_stand_in_the_order_of_their_labels(tmp_path):
    save_samples(
        tmp_path / "samples.png", ["a"], {"source": [plain(GREEN)], "base": [plain(RED)], "trained": [plain(BLUE)]}
    )
    image = Image.open(tmp_path / "samples.png")
    row = [image.getpixel((x, image.height - 40)) for x in range(image.width)]
    assert row.index(GREEN) < row.index(RED) < row.index(BLUE)


def test_long_and_foreign_prompts_stay_inside_the_sheet_and_the_number_is_limited(tmp_path):
    prompts = ["a very long prompt " * 50, "Ein Würfel über 東京", "x" * 400, *["a"] * 40]
    pictures = [plain(RED)] * len(prompts)
    save_samples(tmp_path / "samples.png", prompts, {"base": pictures, "trained": pictures}, max_prompts=6)
    image = Image.open(tmp_path / "samples.png")
    assert colors_of(tmp_path / "samples.png")[RED] == 6 * 2 * 160 * 160
    assert image.width == 2 * (2 * 160 + 6) + 3 * 24
    assert image.height < 3 * 260


def test_the_best_is_framed_and_what_is_said_stands_below_it(tmp_path):
    pictures = {"a": [plain(RED)] * 2, "b": [plain(BLUE)] * 2}
    save_samples(tmp_path / "plain.png", ["x", "y"], pictures)
    said = {"captions": {"a": ["one\ntwo", ""], "b": ["", ""]}, "best": ["b", None], "remarks": ["", "z " * 500]}
    save_samples(tmp_path / "said.png", ["x", "y"], pictures, **said)
    without, colors = colors_of(tmp_path / "plain.png"), colors_of(tmp_path / "said.png")
    frame = 4 * 3 * 160 - 4 * 3 * 3
    assert colors[RED] == without[RED]
    assert colors[BLUE] == without[BLUE] - frame
    assert colors[_BEST] >= frame
    below = Image.open(tmp_path / "said.png").height - Image.open(tmp_path / "plain.png").height
    assert below == 6 + 3 * 18  # three lines of a remark, two of a caption


def test_a_picture_for_every_prompt_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match="1 trained pictures for 2 prompts"):
        save_samples(tmp_path / "samples.png", ["a", "b"], {"base": [plain(RED)] * 2, "trained": [plain(BLUE)]})


class CountingFont:
    """A font of ten pixels a character that knows how much text it has measured."""

    measured = 0

    def getlength(self, text):
        self.measured += len(text)
        return 10 * len(text)


@pytest.mark.parametrize("unit", ["long words ", "x", "手"])
def test_a_long_prompt_is_wrapped_in_no_more_time_than_a_short_one(unit):
    work = []
    for length in (1_000, 16_000, 256_000):
        font = CountingFont()
        lines = _wrapped((unit * length)[:length], 500, font)
        assert len(lines) == 3
        assert all(len(line) <= 50 for line in lines)
        work.append(font.measured)
    assert work[0] == work[1] == work[2] < 5_000


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a bc", ["a bc"]),
        ("abcde fghi", ["abcde", "fghi"]),
        ("abcd efgh", ["abcd", "efgh"]),
        ("abcdefgh", ["abcde", "fgh"]),
        ("a b c d e f g h i", ["a b c", "d e f", "g h i"]),
        ("a b c d e f g h i j", ["a b c", "d e f", "g h…"]),
        (" a\n\n b ", ["a b"]),
    ],
)
def test_lines_break_at_spaces_and_in_words_that_are_too_long(text, lines):
    assert _wrapped(text, 50, CountingFont()) == lines
