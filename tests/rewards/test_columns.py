"""Columns of a dataset beside what the protocol gives itself, and functions that are async."""

import asyncio

import numpy as np
import pytest
from datasets import Dataset, IterableDataset
from tiny_pipelines import build_pipeline

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.rewards import call, columns_of
from arr_trl.rewards.protocol import ARGUMENTS


PROMPTS = ["a red circle", "a blue square", "a green circle", "a red square"]


def brightness(prompts, completions, **columns):
    return [float(np.asarray(image).mean()) for image in completions]


def trainer_for(tmp_path, reward=brightness, train=None, **kwargs):
    args = RPOConfig(
        output_dir=str(tmp_path / "out"), height=32, width=32, max_sequence_length=12, num_inference_steps=3,
        sde_window_size=1, per_device_train_batch_size=4, gradient_accumulation_steps=1, max_steps=1, bf16=False,
        use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, eval_num_inference_steps=1,
    )  # fmt: skip
    train = train or Dataset.from_dict({"prompt": PROMPTS})
    return RPOTrainer(
        model=kwargs.pop("model", None) or build_pipeline(0),
        reward_funcs=reward,
        args=args,
        train_dataset=train,
        **kwargs,
    )


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("which", ["train_dataset", "eval_dataset"])
def test_column_with_the_name_of_an_argument_is_refused_before_a_model_is_loaded(tmp_path, name, which):
    odd = Dataset.from_dict({"prompt": PROMPTS, name: ["another text"] * 4})
    data = {"train": odd} if which == "train_dataset" else {"eval_dataset": odd}
    with pytest.raises(ValueError, match=rf"{which} has a column '{name}', .* rename the column"):
        trainer_for(tmp_path, model="no/such-model", **data)


def test_column_with_the_name_of_an_argument_is_refused_wherever_rows_become_arguments():
    with pytest.raises(ValueError, match="has a column 'prompts'"):
        columns_of([{"prompt": "a", "prompts": "b"}])
    assert columns_of([{"prompt": "a", "prompt_2": "b"}]) == {"prompts": ["a"], "prompt_2": ["b"]}


def test_streamed_evaluation_is_refused_before_training(tmp_path):
    stream = IterableDataset.from_generator(lambda: ({"prompt": prompt} for prompt in PROMPTS))
    with pytest.raises(ValueError, match=r"eval_dataset is a stream, .* `Dataset.from_list"):
        trainer_for(tmp_path, model="no/such-model", eval_dataset=stream)


async def slow_brightness(prompts, completions, **columns):
    await asyncio.sleep(0)
    return brightness(prompts, completions)


def test_async_reward_works_where_a_loop_already_runs(tmp_path):
    async def cell():  # what a cell of a notebook is
        trainer_for(tmp_path, slow_brightness).train()

    asyncio.run(cell())


def test_error_of_an_async_function_is_its_own_in_a_loop_and_outside():
    async def broken(**arguments):
        raise KeyError("mine")

    async def cell():
        call(broken)

    for run in (lambda: call(broken), lambda: asyncio.run(cell())):
        with pytest.raises(KeyError, match="mine"):
            run()
