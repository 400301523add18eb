from PIL import Image

from arr_trl.digests import image_digest


def test_the_digest_of_a_picture_stays_so_that_what_was_judged_is_found_again():
    picture = Image.new("RGB", (3, 2), (10, 20, 30))
    assert image_digest(picture) == "cb4b7e03f20dc8fca4ccc776756cba78"
    assert image_digest(picture.copy()) == image_digest(picture)


def test_another_shape_or_mode_of_the_same_bytes_is_another_picture():
    black = [Image.new("RGB", (3, 2)), Image.new("RGB", (2, 3)), Image.new("HSV", (3, 2))]
    assert len({image.tobytes() for image in black}) == 1
    assert len(set(map(image_digest, black))) == 3
