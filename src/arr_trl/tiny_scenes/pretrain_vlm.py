"""
Makes the weights of the vision-language model that ships with TinyScenes:
`python -m arr_trl.tiny_scenes.pretrain_vlm --output FOLDER`.

It reads: of a color, which shape it has and where it stands. And it reports: of a picture and a caption, which criteria are
met. Asked whether a picture shows what it should, it learns to say Yes or No, and which of them is drawn at random: it is at
chance when a preset asks, and a judge has to learn it from pairs.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from .preferences import draw_with_faults
from .scenes import COLORS, CRITERIA, OPPOSITE, Caption, captions
from .threads import use_one_thread
from .vlm import NONE, QUESTION, SPECK, TOKENS_OF_A_PICTURE, build_vlm, report


FAULT_RATE = 0.3
_COLORS_READ = 4  # of five, in a new order each time
_IGNORED = -100


READING, REPORT, GUESS = "reading", "report", "guess"


@dataclass(frozen=True)
class Lesson:
    """
    A phase, which the optimizer begins anew.

    Args:
        steps (`int`): how many.
        horizon (`int`): in how many the rate would have fallen to 2%, like a cosine.
        shares (`tuple[float, float, float]`): of its batches, how many are readings, reports and guesses.
    """

    steps: int
    horizon: int
    shares: tuple[float, float, float]


LESSONS = (
    Lesson(steps=200, horizon=700, shares=(1.0, 0.0, 0.0)),
    Lesson(steps=550, horizon=550, shares=(0.1, 0.85, 0.05)),
)
_WARM_UP = 50  # steps


@dataclass(frozen=True)
class Scene:
    """A picture, the caption it was drawn for, what was drawn instead, the color of what is stray, and what is met."""

    caption: Caption
    drawn: Caption
    stray: str | None
    image: Image.Image

    @property
    def met(self) -> dict[str, bool]:
        """Of each criterion, whether it is met, from what was drawn."""
        asked, drawn = self.caption, self.drawn
        colors = (asked.color1, asked.color2) == (drawn.color1, drawn.color2)
        shapes = colors and (asked.shape1, asked.shape2) == (drawn.shape1, drawn.shape2)
        return {
            "colors": colors,
            "shapes": shapes,
            "relation": colors and asked.relation == drawn.relation,
            "count": self.stray is None,
        }

    def shown_words(self) -> dict[int, str]:
        """The words of the caption by their places as they would be right: the shapes of colors that are there, and where."""
        words = str(self.caption).split()
        shown = {2: self.drawn.shape1, 3: self.drawn.relation.split()[0]}
        return shown | ({len(words) - 1: self.drawn.shape2} if self.caption.color2 == self.drawn.color2 else {})

    def reading(self, rng: np.random.Generator) -> str:
        """Of some colors in any order the shape and the place of what has it."""
        drawn = self.drawn
        places = {drawn.color1: drawn.relation, drawn.color2: OPPOSITE[drawn.relation]}
        seen = {drawn.color1: drawn.shape1, drawn.color2: drawn.shape2} | {self.stray: SPECK}
        order = rng.permutation(list(COLORS))[:_COLORS_READ]
        return " ".join(f"{c} {seen.get(c, NONE)} {places.get(c, NONE).split()[0]}" for c in map(str, order))


def scene(split: str, rng: np.random.Generator) -> Scene:
    """A caption of a split, drawn with faults."""
    texts = captions(split)
    caption = Caption.parse(texts[rng.integers(len(texts))])
    image, drawn, stray = draw_with_faults(caption, FAULT_RATE, rng)
    return Scene(caption, drawn, stray, image)


class Lessons:
    """
    Batches of scenes with what is to be said of them.

    Args:
        processor ([`~transformers.ProcessorMixin`]): the model's.
        split (`str`): of the captions.
        rng (`np.random.Generator`): draws everything.
    """

    def __init__(self, processor: ProcessorMixin, split: str, rng: np.random.Generator):
        self.processor, self.split, self.rng = processor, split, rng

    def batch(self, size: int, kind: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """
        What the model takes of some scenes, and labels `[B, L]` of what it has to tell: each word of a reading but the colors,
        each of a report but the criteria, and a guess. Of a caption that is reported on the words that the picture shows, where
        it says something else: it is by them that a report is learned.
        """
        scenes = [scene(self.split, self.rng) for _ in range(size)]
        asked, said = zip(*(self._words(s, kind) for s in scenes), strict=True)
        # as the processor does it, which takes as long as the model for texts this short
        pictures = self.processor.image_processor([s.image for s in scenes], return_tensors="pt")
        shown = "<|vision_start|>" + "<|image_pad|>" * TOKENS_OF_A_PICTURE + "<|vision_end|>"
        texts = [f"{shown}{question}<|im_end|>{answer}" for question, answer in zip(asked, said, strict=True)]
        inputs = self.processor.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        ids = inputs["input_ids"]
        kinds = (ids == self.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
        labels = torch.full_like(ids, _IGNORED)
        starts = (ids == self.processor.tokenizer.eos_token_id).int().argmax(1) + 1
        told = {
            READING: [word for word in range(3 * _COLORS_READ) if word % 3],
            REPORT: [word for word in range(2 * len(CRITERIA)) if word % 2],
            GUESS: [0],
        }[kind]
        for row, start in enumerate(starts.tolist()):
            places = [start + word for word in told]
            labels[row, places] = ids[row, places]
            if kind == REPORT:
                first = start - 1 - len(asked[row].split())  # a word is a token
                for place, word in scenes[row].shown_words().items():
                    labels[row, first + place] = self.processor.tokenizer.convert_tokens_to_ids(f"Ġ{word}")
        return {**inputs, **pictures, "mm_token_type_ids": kinds}, labels

    def _words(self, shown: Scene, kind: str) -> tuple[str, str]:
        """What is asked about a scene, and what is said."""
        if kind == READING:
            return "", shown.reading(self.rng)
        if kind == REPORT:
            return str(shown.caption), report(shown.met)
        return f"{shown.caption}. {QUESTION}", str(self.rng.choice(["Yes", "No"]))


def losses_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> tuple:
    """Mean cross-entropy of the labels, and the share of them that are the likeliest."""
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    targets = labels[:, 1:]
    told = targets != _IGNORED
    loss = torch.nn.functional.cross_entropy(logits[told], targets[told])
    return loss, (logits[told].argmax(-1) == targets[told]).float().mean().item()


@torch.no_grad()
def measure(model: PreTrainedModel, processor: ProcessorMixin, count: int = 256) -> dict[str, float]:
    """Share of the words that are right on scenes of held-out captions, of readings and of reports."""
    model.eval()
    lessons = Lessons(processor, "test", np.random.default_rng(0))
    return {kind: losses_of(model, *lessons.batch(count, kind))[1] for kind in (READING, REPORT)}


def train(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    lesson: Lesson,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
) -> None:
    """One lesson, with AdamW."""
    drawn = Lessons(processor, "train", rng)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(lesson.steps):
        model.train()
        falling = 0.02 + 0.49 * (1 + np.cos(np.pi * step / lesson.horizon))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / _WARM_UP) * falling
        kind = (READING, REPORT, GUESS)[int(np.searchsorted(np.cumsum(lesson.shares), rng.random(), side="right"))]
        loss, _ = losses_of(model, *drawn.batch(batch_size, kind))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def write(model: PreTrainedModel, processor: ProcessorMixin, folder: Path) -> None:
    """Write the model with the processor class that Qwen3-VL names, so that stock transformers can read it."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in folder.glob("*_config.json"):
        path.write_text(path.read_text().replace(type(processor).__name__, "Qwen3VLProcessor"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder that the model is written to")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--shorten", type=int, default=1, help="divide all steps by this, to try the script out")
    args = parser.parse_args()

    use_one_thread()
    started = time.process_time()
    model, processor = build_vlm(seed=0)
    for number, lesson in enumerate(LESSONS, start=1):
        lesson = replace(lesson, steps=lesson.steps // args.shorten)
        train(model, processor, lesson, args.batch_size, args.learning_rate, np.random.default_rng(number))
        rates = {kind: round(rate, 3) for kind, rate in measure(model, processor).items()}
        print(
            f"lesson {number} of {len(LESSONS)}: {rates} after {time.process_time() - started:.0f} CPU s", flush=True
        )
    write(model, processor, args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
