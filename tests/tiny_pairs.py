"""TinyScenes preference pairs as files, in the format of the published release."""

import json

from arr_trl.tiny_scenes import preferences


def write_pairs(folder, count, *rule, name="pairs.jsonl", **settings):
    """`name` in `folder` with `count` pairs and their pictures beside it; returns the pairs."""
    pairs = preferences(count, *rule, **settings)
    (folder / "pictures").mkdir(exist_ok=True)
    with open(folder / name, "w") as file:
        for number, pair in enumerate(pairs):
            files = [f"pictures/{name}-{number}-{i}.png" for i in (0, 1)]
            for path, image in zip(files, pair.images, strict=True):
                image.save(folder / path)
            ranks = [1, 2] if pair.winner == 0 else [2, 1]
            file.write(json.dumps({"query": pair.prompt, "response": files, "label_rank": ranks}) + "\n")
    return pairs
