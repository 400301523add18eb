"""A real `transformers serve` with a tiny model of vision and language answers a preset of each reader."""

import pytest
from PIL import Image
from tiny_vlm import build_vlm
from transformers_server import transformers_serve

from arr_trl.chat.local import LocalChatModel
from arr_trl.judges import JudgeRow, PresetJudge, load_preset


# Each reader finds its own answer in what the model says, whatever it is asked.
SAID = """It is good.
Alignment Score (1-5): 4
Coherence Score (1-5): 3.5
Style Score (1-5): 4.5
{"score": [20, 15]}
<score>7.5</score>
<answer>Image 1 is better</answer>"""
RED, BLUE = (Image.new("RGB", (40, 30), color) for color in ("red", "blue"))
PAIR = JudgeRow("make it red", (RED, BLUE), BLUE)


@pytest.mark.slow
def test_a_preset_of_each_reader_is_answered_by_a_real_server(tmp_path):
    build_vlm(tmp_path / "vlm", says=SAID)
    with transformers_serve(str(tmp_path / "vlm")) as url:

        def verdict(preset, **settings):
            judge = PresetJudge(preset, str(tmp_path / "vlm"), url, **settings)
            judge.check()
            (verdict,) = judge.compare([PAIR])
            judge.model.close()
            return verdict

        assert verdict("unifiedreward-2-point").scores == (0.75, 0.75)
        assert verdict("viescore-edit").failure.startswith("The number 20 is outside 0 to 10")
        assert verdict("unifiedreward-edit-point").scores == (0.6, 0.6)
        with_order = verdict("unifiedreward-think")
        assert (with_order.tie, with_order.first_position) == (True, (True, True))
        # no list of principles is in what this model says
        assert "There are no principles" in verdict("edit-rrm").failure
        assert verdict(load_preset("edit-rrm").model_copy(update={"before": None})).scores == (0.75, 0.75)
        with pytest.raises(
            ValueError, match=r"the preset image-expectation cannot be used.*sent no log-probabilities"
        ):
            verdict("image-expectation")


def test_labels_are_read_of_the_same_kind_of_model_in_process(tmp_path):
    build_vlm(tmp_path)
    judge = PresetJudge("image-expectation", LocalChatModel(str(tmp_path)))
    judge.check()
    rewards = judge(["a red square"] * 2, [RED, BLUE])
    assert all(0 < reward < 1 for reward in rewards)
    assert rewards[0] != rewards[1]
    (answer, *_) = judge.store
    assert set(answer.choice_logprobs) == set("012345")
