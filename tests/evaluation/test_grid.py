import pytest
from PIL import Image

from arr_trl.evaluation import save_samples


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


def test_a_picture_for_every_prompt_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match="1 trained pictures for 2 prompts"):
        save_samples(tmp_path / "samples.png", ["a", "b"], {"base": [plain(RED)] * 2, "trained": [plain(BLUE)]})
