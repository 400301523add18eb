"""A Space of a release: what it is made of, what its app draws, and how it looks in a browser."""

import os
import runpy
import socket
import subprocess
import sys
import time
import types
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from browser import chromium
from diffusers import FluxPipeline
from hub_client import ClientError, HubClient
from hub_server import HubServer
from peft import LoraConfig, get_peft_model
from PIL import Image

from arr_trl.cli.main import main
from arr_trl.release import ADAPTER_FILES, AdapterCard, save_adapter, write_model_card, write_space
from arr_trl.release.space import SDK_VERSION
from arr_trl.tiny_scenes import BASE_MODEL, load_pipeline


PROMPTS = ["a red circle left of a blue square", 'a sign that says "so\\so"']
INFERENCE = {"height": 32, "width": 32, "num_inference_steps": 2, "max_sequence_length": 12}
WEIGHTS = ADAPTER_FILES[-1]


def write_card(folder, subfolder, **facts):
    gallery = [{"file": f"gallery/ARR/{i}.png", "prompt": prompt} for i, prompt in enumerate(PROMPTS, start=1)]
    given = {"base_model": "user/base", "pipeline_class": "FluxPipeline", "dtype": "float32", "inference": INFERENCE}
    card = {
        "prompt": "a card's own",
        "lora_r": 4,
        "lora_alpha": 4,
        "target_modules": ["attn.to_q"],
        "gallery": gallery,
    }
    write_model_card(folder, AdapterCard(subfolder, **{**given, **card, **facts}))


def release_without_weights(folder, subfolder="ARR", **facts):
    (folder / subfolder).mkdir(parents=True, exist_ok=True)
    for name in ADAPTER_FILES:
        (folder / subfolder / name).write_bytes(b"weights")
    write_card(folder, subfolder, **facts)
    return folder


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """An adapter of TinyScenes that changes what is drawn."""
    folder = tmp_path_factory.mktemp("release")
    pipeline = load_pipeline()
    pipeline.transformer = get_peft_model(
        pipeline.transformer, LoraConfig(r=4, lora_alpha=4, target_modules=["attn.to_q"])
    )
    for name, parameter in pipeline.transformer.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.1)
    save_adapter(pipeline.transformer, folder / "ARR", FluxPipeline)
    write_card(folder, "ARR", base_model=str(BASE_MODEL))
    return folder


class StubGradio(types.ModuleType):
    """In place of gradio: every component is what it was made of, and `app` remembers what was connected."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("gradio")
        self.calls = {}
        for name in ("Blocks", "Row", "Column", "Image", "Textbox", "Number", "Button", "Markdown", "Examples", "on"):
            setattr(self, name, self._recording(name))

    def _recording(self, name):
        class Component(SimpleNamespace):
            __enter__, __exit__ = lambda component: component, lambda component, *error: None

        def made(*args, **kwargs):
            component = Component(args=args, kwargs=kwargs, click="click", submit="submit")
            self.calls.setdefault(name, []).append(component)
            return component

        return made


@pytest.fixture
def stub(monkeypatch):
    stub, spaces = StubGradio(), types.ModuleType("spaces")
    spaces.GPU = lambda duration: lambda function: function
    monkeypatch.setitem(sys.modules, "gradio", stub)
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    return stub


def test_the_app_draws_what_base_and_adapter_draw_at_one_seed(release, tmp_path, stub, capsys):
    argv = ["space", str(release), "--base_model", "tiny_scenes", "--output", str(tmp_path)]
    assert main(argv) == 0
    names = runpy.run_path(str(tmp_path / "app.py"), run_name="app")
    (connected,) = stub.calls["on"]
    triggers, compare, inputs, _ = connected.args
    assert (triggers, len(inputs)) == (["click", "submit"], 2)
    assert [row for (row,) in stub.calls["Examples"][0].args[0]] == PROMPTS
    pipeline = load_pipeline()

    def drawn(seed):
        generator = names["torch"].Generator().manual_seed(seed)
        return np.asarray(pipeline(prompt=PROMPTS[0], **INFERENCE, generator=generator).images[0])

    base = drawn(3)
    pipeline.load_lora_weights(release, subfolder="ARR", weight_name=WEIGHTS)
    expected = base, drawn(3)
    assert (expected[0] != expected[1]).any()
    for _ in range(2):  # the adapter is off for the base again
        for picture, wanted in zip(compare(PROMPTS[0], 3.0), expected, strict=True):
            np.testing.assert_array_equal(np.asarray(picture), wanted)


def test_a_space_says_what_the_hub_has_to_know(tmp_path):
    space = write_space(release_without_weights(tmp_path, license="apache-2.0") / "ARR")
    assert space == tmp_path / "space" / "ARR"
    assert (space / "ARR" / WEIGHTS).read_bytes() == b"weights"
    matter = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert (matter["sdk"], matter["sdk_version"]) == ("gradio", SDK_VERSION)
    assert matter["models"] == ["user/base"]
    assert (matter["license"], matter["app_file"]) == ("apache-2.0", "app.py")
    assert {"torch", "diffusers>=0.42", "peft", "spaces"} <= set((space / "requirements.txt").read_text().split())
    assert 'base_model = "user/base"\nadapters = str(here)\n' in (space / "app.py").read_text()

    write_space(tmp_path, adapter_repo="user/ARR")
    assert not (space / "ARR" / WEIGHTS).exists()
    assert 'adapters = "user/ARR"\n' in (space / "app.py").read_text()
    matter = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert matter["models"] == ["user/base", "user/ARR"]


def test_an_editing_adapter_begins_with_the_pictures_of_the_evaluation(tmp_path, stub, monkeypatch):
    setup = "# Sources had another area.\nimport colorsys as own\nown.AREA = 64"
    release_without_weights(
        tmp_path,
        ".",
        pipeline_class="FluxFillPipeline",
        task="image-editing",
        call_setup=setup,
        inference={"strength": 1},
    )
    (tmp_path / "gallery" / "ARR").mkdir(parents=True)
    for number in (1, 2):
        for name in ("source", "mask"):
            Image.new("RGB", (8, 8)).save(tmp_path / "gallery" / "ARR" / f"{number}-{name}.png")
    space = write_space(tmp_path)
    assert "pipe.load_lora_weights(adapters)\n" in (space / "app.py").read_text()
    assert f"\n{setup}\n" in (space / "app.py").read_text()

    asked = {}

    class Pipe:
        transformer = SimpleNamespace(disable_lora=lambda: None, enable_lora=lambda: None)

        def __call__(self, **arguments):
            asked.update(arguments)
            return SimpleNamespace(images=[arguments["image"]])

        load_lora_weights = to = lambda self, *args, **kwargs: None

    monkeypatch.setattr("diffusers.FluxFillPipeline", SimpleNamespace(from_pretrained=lambda *args, **kwargs: Pipe()))
    runpy.run_path(str(space / "app.py"), run_name="app")
    (examples,) = stub.calls["Examples"]
    rows = [[str(space / "examples" / f"{n}-{name}.png") for name in ("source", "mask")] for n in (1, 2)]
    assert examples.args[0] == [[*row, prompt] for row, prompt in zip(rows, PROMPTS, strict=True)]
    compare = stub.calls["on"][0].args[1]
    assert compare("picture", "mask", "a prompt", 0) == ["picture", "picture"]
    assert {"image": "picture", "mask_image": "mask", "prompt": "a prompt", "strength": 1}.items() <= asked.items()
    for given in ((None, "mask"), ("picture", None)):
        with pytest.raises(StubGradio.Error, match="Give a"):
            compare(*given, "a prompt", 0)

    # of an earlier version, whose galleries had no sources
    (tmp_path / "gallery" / "ARR" / "2-source.png").unlink()
    write_space(tmp_path)
    assert not (space / "examples" / "2-source.png").exists()
    assert "[mask, prompt]," in (space / "app.py").read_text()


def test_what_cannot_become_a_space_is_said(tmp_path, capsys):
    def refused(*argv):
        with pytest.raises(SystemExit) as stop:
            main(["space", *map(str, argv)])
        assert stop.value.code == 2
        return capsys.readouterr().err

    local = release_without_weights(tmp_path / "local", base_model=str(tmp_path))
    assert "which was a local folder; give `base_model`" in refused(local)
    assert "a folder of this machine" in refused(local, "--base_model", tmp_path, "--push", "--repo_id", "user/x")
    assert "go together" in refused(local, "--push")
    assert "is not that of a Space and would be written over" in refused(
        local, "--base_model", "user/b", "--output", local
    )
    release_without_weights(tmp_path / "two", "ARR-one")
    assert "say with `subfolder`" in refused(release_without_weights(tmp_path / "two", "ARR-two"))
    readme = tmp_path / "two" / "README.md"
    readme.write_text(readme.read_text().replace("image = pipe(", "picture = pipe("))
    assert "in the section of ARR-two, under 'How to use'" in refused(tmp_path / "two", "--subfolder", "ARR-two")


def test_a_space_is_pushed_as_one_and_says_why_not(tmp_path):
    release_without_weights(tmp_path)
    code = "from arr_trl.release import push_space\npush = push_space(space, repo_id, private=True)\nresult = push.commit_url"
    with HubServer() as hub:
        client = HubClient(hub, tmp_path)
        try:
            client.run("import tenacity, arr_trl.release.push as push\npush._BACKOFF = tenacity.wait_fixed(0.05)")
            space = write_space(tmp_path)
            (space / "__pycache__").mkdir()
            (space / "__pycache__" / "app.pyc").write_bytes(b"")
            hub.fail("POST", "/api/spaces/user/show/commit", status=503)
            assert "user/show/commit/" in client.run(code, space=space, repo_id="user/show")
            repo = hub.repos["space", "user/show"]
            assert repo.private
            own = {"README.md", "app.py", "requirements.txt", f"ARR/{WEIGHTS}"}
            assert set(repo.files) == {".gitattributes", *own}
            assert repo.files["app.py"] == (space / "app.py").read_bytes()
            with pytest.raises(ClientError, match=r"your token may not write there.*the files are kept in") as error:
                client.run(code, space=space, repo_id="other/show")
            assert error.value.kind == "PushError"
        finally:
            client.close()


@pytest.mark.slow
def test_the_space_in_a_browser(release, tmp_path):
    """Examples fill the prompt, and a click shows both pictures."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    pytest.importorskip("spaces", reason="spaces is not installed")
    space = write_space(release, tmp_path / "space", base_model=str(BASE_MODEL))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "NO_PROXY": "127.0.0.1"}
    app = subprocess.Popen([sys.executable, "app.py"], cwd=space, env={**os.environ, **environment})
    try:
        page_url = f"http://127.0.0.1:{port}"
        _answers(page_url, app)
        with chromium(1200, 1000) as page:
            page.implicitly_wait(60)
            page.get(page_url)
            page.find_element("xpath", "//button[contains(., 'a sign that says')]").click()
            box = page.find_element("css selector", "textarea")
            _until(lambda: box.get_attribute("value") == PROMPTS[1])
            page.find_element("xpath", "//button[contains(., 'Draw both')]").click()
            pictures = "//*[contains(@class, 'image-frame')]//img"
            _until(lambda: len(page.find_elements("xpath", pictures)) == 2)
            page.save_screenshot(os.environ.get("SPACE_SCREENSHOT", str(tmp_path / "page.png")))
            shown = [image.get_attribute("src") for image in page.find_elements("xpath", pictures)]
            read = [Image.open(urllib.request.urlopen(source)).convert("RGB") for source in shown]
            assert [picture.size for picture in read] == [(32, 32)] * 2
            assert read[0].tobytes() != read[1].tobytes()
    finally:
        app.terminate()
        app.wait(timeout=60)


def _answers(url, app, seconds=120):
    for _ in range(seconds):
        assert app.poll() is None, "the app ended"
        try:
            urllib.request.urlopen(url)
            return
        except OSError:
            time.sleep(1)
    raise TimeoutError(url)


def _until(true, seconds=120):
    for _ in range(seconds * 4):
        if true():
            return
        time.sleep(0.25)
    raise TimeoutError
