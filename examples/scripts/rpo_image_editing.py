# /// script
# requires-python = ">=3.10"
# dependencies = ["arr_trl"]
# ///
"""
Train a LoRA adapter for an image editor, Qwen-Image-Edit or FLUX.1-Kontext, with Rubric Policy Optimization: the steps
of `arr-trl rpo` in the open, to change what has no option. Start a judge first, for example with
`vllm serve Qwen/Qwen3-VL-8B-Instruct`, then:

python examples/scripts/rpo_image_editing.py \
    --config examples/configs/rpo_qwen_image_edit.yaml \
    --dataset_name edits.jsonl \
    --rubric examples/rubrics/image_editing.json \
    --judge_model Qwen/Qwen3-VL-8B-Instruct \
    --base_url http://localhost:8000/v1

`edits.jsonl` holds one {"prompt": "...", "source_image": "pictures/1.png"} a line; a path is relative to the file, and
a list of paths stands for several references. For an evaluation add `--eval_dataset_name held_out.jsonl
--eval_dataset_split train`; a local file has one split, `train`.
"""

from pathlib import Path

from trl import TrlParser

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.cli.judge_arguments import build_judge
from arr_trl.cli.rpo import RPOScriptArguments, lora_config
from arr_trl.data import load_prompts
from arr_trl.evaluation import print_table


def main(script_args: RPOScriptArguments, training_args: RPOConfig) -> None:
    output_dir = Path(training_args.output_dir)

    # shows the judge the source first, as BASE, then the candidates in both orders
    judge = build_judge(
        script_args,
        store=script_args.judge_store or output_dir / "judge.sqlite",
        order=script_args.judge_order,
        seed=training_args.seed,
    )
    judge.check()  # find out now, not after the model is loaded, whether the server can be asked

    def edits(name: str | list[str], split: str):
        return load_prompts(
            name,
            script_args.dataset_config,
            split,
            script_args.dataset_streaming,
            script_args.prompt_column,
            script_args.source_column,
        )

    eval_split = script_args.eval_dataset_split
    eval_name = script_args.eval_dataset_name or script_args.dataset_name
    trainer = RPOTrainer(
        model=script_args.model_name_or_path,
        reward_funcs=judge,
        args=training_args,
        train_dataset=edits(script_args.dataset_name, script_args.dataset_split),
        eval_dataset=edits(eval_name, eval_split) if eval_split else None,
        peft_config=lora_config(script_args, training_args),
    )
    print(trainer.batch_arithmetic())
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)

    trainer.save_model()
    if trainer.eval_dataset is not None:
        trainer.evaluate()  # samples.png: source, base and trained beside each other
        trainer.evaluation.save(output_dir / "results.json")
        print_table(trainer.evaluation)
    trainer.create_model_card()


if __name__ == "__main__":
    parser = TrlParser((RPOScriptArguments, RPOConfig))
    main(*parser.parse_args_and_config())
