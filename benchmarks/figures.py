"""
The pictures that README and the documentation show, from an evaluation of the quickstart's adapter: a strip of base and
trained under the rubric they were judged by, and the top of its report. `make figures` makes the evaluation, too. Needs
chromium, chromedriver and selenium.

python benchmarks/figures.py --evaluation outputs/evaluation
"""

import argparse
import base64
import io
import json
import sys
from pathlib import Path

from jinja2 import Template
from PIL import Image

from arr_trl import Rubric
from arr_trl.evaluation import Evaluation
from arr_trl.evaluation.answer import answers
from arr_trl.evaluation.pictures import picture_path
from arr_trl.evaluation.reasons import with_names


sys.path.append(str(Path(__file__).parents[1] / "tests"))
from browser import address, chromium


SHOWN = 4  # pairs in the strip
LARGEST = 150_000  # bytes of a picture: PyPI and the pages of the documentation load them
STRIP = Template("""\
<!doctype html><meta charset="utf-8"><style>
body { box-sizing: border-box; margin: 0; padding: 20px; background: #fff; color: #1b1f24; font: 15px/1.45 system-ui, "DejaVu Sans", sans-serif; display: grid; grid-template-columns: 270px 1fr; gap: 24px; }
h2 { margin: 0 0 8px; font-size: 15px; } .theme { margin: 10px 0 2px; color: #626a73; font-size: 13px; } ol { margin: 0; padding-left: 20px; } li { margin: 3px 0; }
.rubric { background: #f6f7f9; border: 1px solid #d5dae0; border-radius: 8px; padding: 14px; }
.pairs { display: grid; grid-template-columns: repeat(4, 1fr); gap: 20px 16px; align-content: space-between; } p { margin: 6px 0 0; font-size: 13px; } .prompt { margin: 0 0 6px; font-weight: 600; min-height: 40px; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; } img { display: block; width: 100%; image-rendering: pixelated; border-radius: 4px; } .won { box-shadow: 0 0 0 3px #18794e; } figure { margin: 0; } figcaption { font-size: 12px; color: #626a73; } .won + figcaption { color: #18794e; font-weight: 600; }
.answer { grid-column: 1 / -1; margin: 0; font-size: 17px; }
@media (max-width: 700px) { body, .pairs { grid-template-columns: 1fr 1fr; } .rubric, .pairs { grid-column: 1 / -1; } }
</style>
<div class="rubric"><h2>The rubric</h2>
{% for theme, criteria in themes.items() %}<div class="theme">{{ theme }}</div><ol start="{{ criteria[0][0] }}">{% for _, text in criteria %}<li>{{ text }}</li>{% endfor %}</ol>{% endfor %}</div>
<div class="pairs">{% for pair in pairs %}
<div><p class="prompt">{{ pair.prompt }}</p><div class="two">{% for one in pair.pictures %}<figure><img class="{{ 'won' if one.won }}" src="{{ one.source }}"><figcaption>{{ one.name }}{{ " ✓" if one.won }}</figcaption></figure>{% endfor %}</div><p>{{ pair.said }}</p></div>
{% endfor %}<p class="answer">{{ answer }}</p></div>
""")


def data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def strip(folder: Path, evaluation: Evaluation, adapter: str) -> str:
    """The first pairs that the judge decided, in the order of the prompts: nothing is picked."""
    lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    decided = [r for r in records if r["models"] == ["base", adapter] and r["winner"] is not None][:SHOWN]
    names = ("base", "trained")
    rubric, themes = Rubric.model_validate(evaluation.judge["rubric"]), {}
    for number, criterion in enumerate(rubric.criteria, start=1):
        themes.setdefault(criterion.theme, []).append((number, criterion.text))
    pairs = [
        {
            "prompt": record["prompt_text"],
            "said": f"The judge: “{with_names(record['reason'], names)}” {names[record['winner']]} wins{_by(record)}.",
            "pictures": [
                {"name": name, "won": record["winner"] == i, "source": data_url(picture_path(folder / "images", model, record["prompt"], record["image"]))}
                for i, (name, model) in enumerate(zip(names, ("base", adapter), strict=True))
            ],
        }
        for record in decided
    ]  # fmt: skip
    answer = (
        " ".join(answers(evaluation)).replace(adapter, "The trained model", 1).replace(adapter, "the trained model")
    )
    return STRIP.render(themes=themes, pairs=pairs, answer=answer)


def _by(record: dict) -> str:
    """The criteria that speak for the winner, by their numbers in the rubric."""
    numbers = [str(number) for number, winner in record["criteria"] if winner == record["winner"]]
    return " on " + " and ".join(filter(None, (", ".join(numbers[:-1]), numbers[-1]))) if numbers else ""


def save(screenshot: bytes, path: Path) -> None:
    """As a PNG of 256 colours, which is small and sharp."""
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{path} has {size:,} bytes, more than {LARGEST:,}.")
    print(f"Wrote {path}, {image.width}×{image.height}, {size:,} bytes.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluation", type=Path, default=Path("outputs/evaluation"))
    parser.add_argument("--output", type=Path, default=Path("docs/source/images"))
    args = parser.parse_args()

    evaluation = Evaluation.load(args.evaluation / "results.json")
    page_of_strip = args.evaluation / "strip.html"
    page_of_strip.write_text(strip(args.evaluation, evaluation, next(iter(evaluation.adapters))), encoding="utf-8")
    for name, width in (("strip", 1200), ("strip_narrow", 560)):
        with chromium(width=width, height=500) as page:
            page.get(address(page_of_strip))
            height = page.execute_script("return document.body.offsetHeight")
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            shot = page.execute_cdp_cmd(
                "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
            )
            save(base64.b64decode(shot["data"]), args.output / f"{name}.png")
    with chromium(width=1400, height=1000) as page:
        page.get(address(args.evaluation / "report.html"))
        page.execute_script("document.documentElement.style.overflow = 'hidden'")
        page.execute_async_script(
            "Promise.all([...document.images].map((i) => i.decode().catch(() => 0))).then(arguments[0])"
        )
        save(page.get_screenshot_as_png(), args.output / "report.png")


if __name__ == "__main__":
    main()
