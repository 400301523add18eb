"""What the Hub shows above a card: pictures of the evaluation, tags that it knows, and a method that is the run's own."""

import pytest
import yaml
from PIL import Image

from arr_trl.evaluation import EvaluationResults
from arr_trl.release import AdapterCard, push_to_hub, write_model_card
from arr_trl.release.card_sections import read_sections


def card(subfolder="ARR", pictures=2, **facts):
    gallery = [{"file": f"gallery/{subfolder}/{i}.png", "prompt": f"scene {i}: a cat"} for i in range(1, pictures + 1)]
    given = {
        "rewards": ["brightness"],
        "method": "Flow-GRPO",
        "tags": ["reinforcement-learning", "flow-grpo"],
        **facts,
    }
    return AdapterCard(subfolder, "user/base", "FluxPipeline", "a cat", 4, 8, ["attn.to_q"], gallery=gallery, **given)


def front_matter(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---")[1])


def test_pictures_become_the_widget_and_those_of_people_stay(tmp_path):
    theirs = "---\nwidget:\n- text: mine\n  output:\n    url: images/mine.png\n---\n\n# mine\n"
    (tmp_path / "README.md").write_text(theirs)
    write_model_card(tmp_path, card())
    assert front_matter(tmp_path)["widget"] == [
        {"text": "mine", "output": {"url": "images/mine.png"}},
        {"text": "scene 1: a cat", "output": {"url": "gallery/ARR/1.png"}},
        {"text": "scene 2: a cat", "output": {"url": "gallery/ARR/2.png"}},
    ]
    write_model_card(tmp_path, card("ARR-two", pictures=1))
    write_model_card(tmp_path, card(pictures=1))
    assert [item["output"]["url"] for item in front_matter(tmp_path)["widget"]] == [
        "images/mine.png", "gallery/ARR/1.png", "gallery/ARR-two/1.png",
    ]  # fmt: skip
    before = (tmp_path / "README.md").read_bytes()
    write_model_card(tmp_path, card(pictures=1))
    assert (tmp_path / "README.md").read_bytes() == before
    for name in ("ARR", "ARR-two"):
        write_model_card(tmp_path, card(name, pictures=0))
    assert (tmp_path / "README.md").read_text().startswith(theirs.split("---\n\n")[0])


def test_push_sends_the_pictures_that_are_there_and_nothing_else(tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors"):
        (tmp_path / "ARR").mkdir(exist_ok=True)
        (tmp_path / "ARR" / name).write_bytes(b"")
    (tmp_path / "gallery" / "ARR").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "gallery" / "ARR" / "1.png")
    write_model_card(tmp_path, card())
    files = push_to_hub(tmp_path, "user/x", dry_run=True).files
    assert [name for name in files if name.startswith("gallery")] == ["gallery/ARR/1.png"]
    section = read_sections((tmp_path / "README.md").read_text())[0].published("user/x", None, files)
    assert [picture["file"] for picture in section.facts["gallery"]] == ["gallery/ARR/1.png"]
    # a README that somebody has edited sends no other file
    text = (tmp_path / "README.md").read_text().replace('"gallery/ARR/1.png"', '"gallery/../secret.png"')
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError, match=r"gallery.*cannot|cannot be brought up to date|facts in its first marker"):
        push_to_hub(tmp_path, "user/x", dry_run=True)


def test_a_run_with_reward_functions_alone_is_not_published_as_judged(tmp_path):
    write_model_card(tmp_path, card())
    text, tags = (tmp_path / "README.md").read_text(), front_matter(tmp_path)["tags"]
    assert {"lora", "template:sd-lora", "diffusers-training", "flow-grpo"} <= set(tags)
    assert not {"auto-rubric", "rubric-policy-optimization"} & set(tags)
    assert "Trained by Flow-GRPO." in text
    assert "### Rewards" in text
    assert "No judge took part." in text
    for word in (
        "Rubric Policy Optimization",
        "judge that can be read",
        "autorubricasreward",
        "No rubric was recorded",
    ):
        assert word not in text, word


@pytest.mark.parametrize("as_trained", [None, {"guidance_scale": 1.0, "win_rate": 0.7}])
def test_every_figure_of_an_evaluation_has_a_row_of_its_own(tmp_path, as_trained):
    results = EvaluationResults(
        "b", "ARR", 30, win_rate=1.0, win_rate_ci=(0.886, 1.0), tie_rate=0.1, failure_rate=0.0, order_consistency=0.9,
        win_rate_by="Judge (without brightness, which rewarded too)", as_trained=as_trained,
    )  # fmt: skip
    write_model_card(tmp_path, card(results=results))
    text = (tmp_path / "README.md").read_text()
    rows = text.partition("which rewarded too), trained against base")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(rows) == 4 + (as_trained is not None)
    assert all(row.count("|") == 3 for row in rows)
    assert "Judge (without brightness, which rewarded too): 100.0% [88.6%, 100.0%]" in text  # in the table of adapters
