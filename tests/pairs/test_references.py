"""Pictures that candidates are compared with: one of each prompt, by the base, made once."""

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from PIL import Image
from stub_painter import StubPainter

from arr_trl.data import load_prompts
from arr_trl.judges import PresetJudge
from arr_trl.pairs.painter import Wanted, seed_of
from arr_trl.pairs.references import with_references, write_prompts
from arr_trl.tiny_scenes import TinyScenesJudge


PROMPTS = ["a red circle left of a blue square", "a green square above a yellow circle"]


def noise(prompt, source, seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8))


def test_a_prompt_has_the_same_reference_wherever_it_stands_and_is_drawn_once(tmp_path):
    painter = StubPainter(tmp_path / "images", noise)
    rows = with_references(Dataset.from_dict({"prompt": PROMPTS, "kind": [1, 2]}), painter)
    again = with_references(Dataset.from_dict({"prompt": PROMPTS[::-1]}), painter)
    assert len(painter.drawn) == 2
    assert rows["kind"] == [1, 2]
    assert [image.tobytes() for image in rows["reference_image"]] == [
        image.tobytes() for image in again["reference_image"]
    ][::-1]
    assert len({image.tobytes() for image in rows["reference_image"]}) == 2
    with_references(Dataset.from_dict({"prompt": PROMPTS}), painter, seed=1)
    assert len(painter.drawn) == 4  # of another seed
    # none of the pictures that pairs are made of, which would be compared with itself
    painter.draw([Wanted(PROMPTS[0], None, seed_of(0, 0, PROMPTS[0], None))])
    assert len(painter.drawn) == 5
    with pytest.raises(ValueError, match="has a column 'reference_image' already"):
        with_references(rows, painter)


def test_an_edit_has_a_reference_for_each_source_and_both_pictures_are_in_what_is_written(tmp_path):
    painter = StubPainter(tmp_path / "images", noise, editing=True)
    for i in range(2):
        Image.new("RGB", (16, 16), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "edits.jsonl").write_text(
        "".join(f'{{"prompt": "make it night", "source_image": "{i}.png"}}\n' for i in range(2))
    )
    rows = with_references(load_prompts(str(tmp_path / "edits.jsonl")), painter)
    assert len(painter.drawn) == 2
    write_prompts(rows, tmp_path / "out")
    for path in painter.drawn:
        path.unlink()
    read = load_dataset(str(tmp_path / "out"), split="train")
    assert len({image.tobytes() for image in read["reference_image"]}) == 2
    assert read.column_names == ["prompt", "source_image", "reference_image"]


def test_a_dataset_without_references_is_told_what_draws_them(tmp_path):
    judge = PresetJudge("reference-yes", TinyScenesJudge())
    rows = Dataset.from_dict({"prompt": PROMPTS})
    with pytest.raises(ValueError, match=r"no column 'reference_image'.* `arr-trl judge references` draws it"):
        judge.check_first_row(rows)
    judge.check_first_row(with_references(rows, StubPainter(tmp_path / "images", noise)))
