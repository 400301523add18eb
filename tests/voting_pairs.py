"""Pairs to vote on whose pictures say by their color which they are."""

from PIL import Image

from arr_trl.votes import VotingPair


def voting_pairs(folder, count, prompt="a picture {}", source=False, **others):
    (folder / "images").mkdir(exist_ok=True)
    pairs = []
    for number in range(count):
        paths = []
        for side in range(3 if source else 2):
            path = folder / "images" / f"{number}-{side}.png"
            Image.new("RGB", (16, 12), (number % 250, side, 100)).save(path)
            paths.append(f"images/{path.name}")
        pairs.append(VotingPair(f"k{number}", prompt.format(number), tuple(paths[:2]), tuple(paths[2:]), **others))
    return pairs
