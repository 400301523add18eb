"""Text in pictures, and scorers of a package that is installed beside these."""

import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from PIL import Image

from arr_trl.rewards import ImScore, ModelScorer, OCRScore, ocr_score


PICTURE = Image.new("RGB", (8, 8))


def test_share_of_the_text_that_was_read():
    pytest.importorskip("rapidfuzz")
    assert ocr_score("openai", "opena1") == pytest.approx(5 / 6)
    assert ocr_score("Open AI", "the sign says OPENAI today") == 1.0
    assert ocr_score("cat", "something else entirely") == 0.0


def test_a_picture_is_scored_by_its_own_text_and_a_failure_is_no_zero():
    pytest.importorskip("rapidfuzz")

    def read(image):
        if image.getpixel((0, 0)) == (255, 0, 0):
            raise RuntimeError("no memory")
        return "hello"

    scorer = OCRScore(read)
    prompts = ['a sign that says "hello"', "a sign that says “help”", "a sign", 'a "hello"', "no quotes", 'a ""']
    pictures = [PICTURE, PICTURE, PICTURE, Image.new("RGB", (8, 8), "red"), PICTURE, PICTURE]
    targets = [None, None, "jello", None, None, None]
    assert scorer(prompts, pictures, target_text=targets) == [1.0, 0.5, 0.8, None, None, None]
    assert scorer(prompts, pictures) == [1.0, 0.5, None, None, None, None]


@pytest.mark.skipif(find_spec("rapidocr") is not None, reason="rapidocr is installed")
def test_a_missing_reader_is_named_before_training():
    with pytest.raises(ImportError, match=r"needs .*rapidocr.*pip install arr_trl\[ocr\]"):
        OCRScore().check()


class Mean(torch.nn.Module):
    """As imscore's scorers are: from a repository, and from pixels in 0 to 1 to a column of scores."""

    def __init__(self, scale):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    @classmethod
    def from_pretrained(cls, repository):
        assert repository == "user/mean"
        return cls(2.0)

    def score(self, pixels, prompts):
        assert len(pixels) == len(prompts)
        return self.scale * pixels.mean((1, 2, 3))[:, None]


def test_a_scorer_of_imscore_scores_pictures_of_any_size_and_pixels(monkeypatch):
    package, module = ModuleType("imscore"), ModuleType("imscore.mean")
    module.Mean, package.__spec__, package.__path__ = Mean, object(), []
    monkeypatch.setitem(sys.modules, "imscore", package)
    monkeypatch.setitem(sys.modules, "imscore.mean", module)
    scorer = ImScore("mean.Mean", "user/mean")
    assert scorer.__name__ == "mean"
    pictures = [Image.new("RGB", (8, 8), "white"), Image.new("RGB", (4, 12)), Image.new("RGB", (8, 8), (51, 51, 51))]
    assert scorer(["a", "b", "c"], pictures) == pytest.approx([2.0, 0.0, 0.4])
    pixels = torch.full((2, 3, 4, 4), 0.5, requires_grad=True)
    scores = scorer(["a", "b"], pixels)
    assert scores.tolist() == [1.0, 1.0]
    scores.sum().backward()
    assert pixels.grad.flatten().tolist() == pytest.approx([2 / 48] * 96)


class Moved(torch.nn.Module):
    """Remembers where it was put."""

    def __init__(self):
        super().__init__()
        self.places = []

    def to(self, device):
        self.places.append(str(device))
        return self


class OnMeta(ModelScorer):
    def _load(self):
        self.module = Moved()
        return self.module

    def _size_of(self, height, width):
        return height, width

    def _score(self, module, prompts, pixels):
        assert pixels[0].device.type == "meta"
        return torch.arange(len(pixels)).float()


def test_a_model_waits_on_the_cpu_between_calls_when_asked_but_not_before_a_backward_pass():
    scorer = OnMeta(device="meta", offload=True, batch_size=2)
    scorer.check()
    assert scorer.module.places == ["cpu"]
    assert scorer(["a"] * 3, [PICTURE] * 3) == [0.0, 1.0, 0.0]
    assert scorer.module.places == ["cpu", "meta", "cpu"]
    scorer(["a"], torch.zeros(1, 3, 8, 8))
    assert scorer.module.places[3:] == ["meta"]
    stays = OnMeta(device="meta")
    stays(["a"], [PICTURE])
    assert set(stays.module.places) == {"meta"}


def test_imscore_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imscore", None)
    with pytest.raises((ImportError, ValueError), match="imscore"):
        ImScore("mean.Mean", "user/mean").check()
