"""A judge's words, with names for numbers."""

import pytest

from arr_trl.evaluation.reasons import with_names


@pytest.mark.parametrize(("said", "shown"), [
    ("Image 1 has two dogs, image 2 has one.", "base has two dogs, new has one."),
    ("Images 1 and 2 are level.", "base and new are level."),
    ("Images 2 and 1 are level.", "new and base are level."),
    ("The second image is sharper than the first picture.", "new is sharper than base."),
    ("Edited image 2 keeps the BASE image as it was.", "new keeps the source as it was."),
    ("The base image 1 is cut.", "The base base is cut."),
    ("图像 1 更清晰，第二张图像模糊。", "base 更清晰，new模糊。"),
    ("Image 10 and the image of 2 cats.", "Image 10 and the image of 2 cats."),
])  # fmt: skip
def test_numbers_of_pictures_become_names_and_nothing_else_does(said, shown):
    assert with_names(said, ("base", "new")).replace(" ", "") == shown.replace(" ", "")
