"""An evaluation whose every pair is known, for tests that look at what is shown of it."""

from itertools import combinations
from pathlib import Path

from PIL import Image

from arr_trl import Criterion, Rubric
from arr_trl.evaluation import Evaluation
from arr_trl.evaluation.pictures import InferenceSettings, picture_path
from arr_trl.evaluation.records import PairRecord, PictureRecord
from arr_trl.evaluation.summary import summarize


RUBRIC = Rubric(
    name="made-up", criteria=[Criterion(text="It is bright."), Criterion(text="It is blue & <b>bold</b>.")]
)


def color_of(model: str, prompt: int) -> tuple[int, int, int]:
    """Every picture has a colour of its own, which tells it from all others."""
    return (prompt % 256, prompt // 256, {"trained": 200, "later": 120}.get(model, 20))


def made_up(folder: Path, prompts: int, size: int = 32, plain: bool = True, models: tuple = ("base", "trained")):
    """
    Evaluation, pairs and rows: pair i is won by the trained model when i is even, with a margin that grows with i; in
    every tenth pair the orders disagree, and every twenty-fifth has no verdict. Of more than two models the later is the
    second of every pair.
    """
    rows = [
        {"prompt": f"prompt number {i} of a <script>alert({i})</script> {'fox' if i % 3 else 'owl'}"}
        for i in range(prompts)
    ]
    pairs, pictures = [], []
    for i in range(prompts):
        pairs += [_pair(i, two, prompts) for two in combinations(models, 2)]
        for model in models:
            path = picture_path(folder / "images", model, i, 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGB", (size, size), color_of(model, i))
            if not plain:  # photographs do not shrink to nothing
                noise = Image.effect_noise((size // 8, size // 8), 60).resize((size, size), Image.Resampling.BICUBIC)
                picture = Image.blend(picture, noise.convert("RGB"), 0.6)
            picture.save(path, compress_level=1)
            pictures.append(
                PictureRecord(i, 0, model, drift=None if model == "base" else 0.1, rewards={"sharpness": 0.3})
            )
    of_models, comparisons, ranking = summarize(list(models), pairs, pictures, RUBRIC)
    evaluation = Evaluation(
        base_model="tiny-flux",
        adapters={name: str(folder / "run" / name) for name in models[1:]},
        prompts=prompts,
        settings={**vars(InferenceSettings(size, size, num_images_per_prompt=1)), "dtype": "float32"},
        judge={"model": "made-up-judge", "rubric": RUBRIC.model_dump(), "order": "both", "calls": 2 * prompts},
        models=of_models,
        comparisons=comparisons,
        ranking=ranking,
    )
    return evaluation, pairs, rows


def _pair(i: int, models: tuple[str, str], prompts: int) -> PairRecord:
    winner = 1 if i % 2 == 0 else 0
    if i % 25 == 24:
        return PairRecord(i, 0, models, failure="The server did not answer.", rewards={"sharpness": (0.2, 0.5)})
    disagree = i % 10 == 5
    return PairRecord(
        i,
        0,
        models,
        winner=None if disagree else winner,
        consistent=not disagree,
        margin=0.0 if disagree else (1 if winner else -1) * (i + 1) / prompts,
        reason=f"Reason {i} </script>: Image 2 is blue, image 1 is not",
        reason_reversed=f"Other reason {i}: images 1 and 2",
        orders=(0, 1) if disagree else (winner, winner),
        criteria=((1, winner), (2, None if i % 4 else 1 - winner)),
        rewards={"sharpness": (0.25, 0.5)},
    )
