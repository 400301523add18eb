"""Where `model_init_kwargs` says that the pipeline is, everything about it is looked up there."""

from hub_client import HubClient
from hub_server import TOKEN, HubServer

from arr_trl.tiny_scenes import EDIT_BASE_MODEL


BUILD = """
import os
os.environ.pop("HF_TOKEN")  # so that the login cannot stand in for the token of `model_init_kwargs`
from arr_trl import RPOConfig, RPOTrainer
from arr_trl.tiny_scenes import edit_prompts

def first_is_best(prompts, completions, num_generations, **columns):
    return [float(i % num_generations == 0) for i in range(len(completions))]

trainer = RPOTrainer(
    model="user/drawings",
    reward_funcs=first_is_best,
    args=RPOConfig(
        output_dir="out",
        model_init_kwargs={"revision": "edits", "token": token},
        height=32,
        width=32,
        sde_window_size=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        max_steps=1,
        use_cpu=True,
        bf16=False,
        report_to=[],
    ),
    train_dataset=edit_prompts("train"),
)
result = [trainer.base_model, type(trainer.policy).__name__]
"""


def test_a_branch_of_a_private_repository_is_trained_as_what_it_holds(tmp_path):
    files = {
        str(path.relative_to(EDIT_BASE_MODEL)): path.read_bytes()
        for path in EDIT_BASE_MODEL.rglob("*")
        if path.is_file()
    }
    with HubServer() as hub:
        repo = hub.create("user/drawings", private=True)
        repo.commit("main", {"model_index.json": b'{"_class_name": "StableMystery"}'}, "what no policy is for")
        repo.commit("edits", files, "the tiny editor")
        client = HubClient(hub, tmp_path)
        assert client.run(BUILD, token=TOKEN) == ["user/drawings", "QwenImageEditPolicy"]
        client.close()
