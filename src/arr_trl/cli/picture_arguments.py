"""The options of every command that draws pictures for prompts: which model, which prompts, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..shipped import place_of
from .arguments import TINY_SCENES, TINY_SCENES_EDIT


if TYPE_CHECKING:
    from datasets import Dataset

    from ..evaluation.pictures import InferenceSettings
    from ..policies import FlowPolicy


@dataclass
class PictureArguments:
    """Which model draws pictures for which prompts, and how. The name `tiny_scenes` stands for TinyScenes."""

    model: str | None = field(default=None, metadata={"help": "The base: a model id on the Hub or a folder."})
    dataset: str | None = field(
        default=None,
        metadata={
            "help": "Prompts: a .jsonl, .json, .csv, .parquet or .txt file, a dataset on the Hub, or a prompt set by its "
            "name, such as `geneval`."
        },
    )
    data_files: list[str] | None = field(
        default=None, metadata={"help": "Files of the dataset to read, or the local copy of a prompt set."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    prompt_column: str = field(default="prompt", metadata={"help": "Column that holds the prompts."})
    source_column: str | None = field(default=None, metadata={"help": "Column that holds the pictures to edit."})
    limit: int | None = field(default=None, metadata={"help": "How many prompts to take. Unset, all of them."})
    height: int = field(default=512, metadata={"help": "Height of the pictures in pixels."})
    width: int = field(default=512, metadata={"help": "Width of the pictures in pixels."})
    size_from_source: bool = field(
        default=True,
        metadata={
            "help": "Draw an edit with the aspect ratio of its source and about the area of `height` × `width`, and not at "
            "these."
        },
    )
    num_inference_steps: int | None = field(
        default=None, metadata={"help": "Denoising steps. Unset, those that the model is recommended with."}
    )
    guidance_scale: float | None = field(
        default=None,
        metadata={"help": "Guidance, as in the pipeline's `__call__`. Unset, what the model is recommended with."},
    )
    max_sequence_length: int | None = field(
        default=None, metadata={"help": "Text tokens per prompt. Unset, what the pipeline's `__call__` takes."}
    )
    condition_size: int | None = field(
        default=None, metadata={"help": "Side of the square whose area sources of editing models are scaled to."}
    )
    negative_prompt: str | None = field(
        default=None, metadata={"help": "What classifier-free guidance leads away from. Unset, the family's default."}
    )
    batch_size: int = field(default=8, metadata={"help": "Pictures in one forward pass."})
    dtype: str | None = field(
        default=None,
        metadata={
            "help": "Precision of the base. Unset, bfloat16 on a GPU and float32 on a CPU.",
            "choices": ["bfloat16", "float16", "float32"],
        },
    )


def read_prompts(args: PictureArguments, tiny_split: str = "test") -> "Dataset":
    """
    The prompts, with the pictures to edit as they are stored.

    Args:
        args ([`PictureArguments`]): the options.
        tiny_split (`str`, *optional*, defaults to `"test"`): which prompts of TinyScenes are meant by its name.

    Raises:
        `ValueError`: when they are no rows that the model can draw from.
    """
    from ..data import MASK_COLUMN, SOURCE_COLUMN, check_prompts, check_sources, load_prompts, undecoded
    from ..policies import policy_class_of
    from ..rewards import check_columns

    if args.dataset in (TINY_SCENES, TINY_SCENES_EDIT):
        from ..tiny_scenes import edit_prompts, prompts

        rows = (prompts if args.dataset == TINY_SCENES else edit_prompts)(tiny_split)
    else:
        rows = load_prompts(
            args.dataset,
            args.dataset_config,
            args.dataset_split,
            prompt_column=args.prompt_column,
            source_column=args.source_column,
            data_files=args.data_files,
        )
    check_prompts(rows, args.dataset)
    check_columns(rows.column_names or next(iter(rows)), args.dataset)
    rows = undecoded(rows)
    policy_class = policy_class_of(place_of(args.model))
    if policy_class.editing or (policy_class.may_edit and SOURCE_COLUMN in rows.column_names):
        check_sources(rows, args.dataset)
    if policy_class.needs_mask:
        check_sources(rows, args.dataset, column=MASK_COLUMN)
    return rows if args.limit is None else rows.select(range(min(args.limit, len(rows))))


def read_rows(args: PictureArguments, tiny_split: str = "test") -> list[dict[str, Any]]:
    """[`read_prompts`] as a list."""
    return list(read_prompts(args, tiny_split))


def load_pipeline_of(args: PictureArguments, of_rows: Mapping[str, int] | None = None) -> "FlowPolicy":
    """
    The model that draws; `of_rows` are sizes that rows ask for, by words that say which row does.

    Raises:
        `ValueError`: when it cannot draw pictures of this size, or has no such setting.
    """
    import torch

    from ..policies import load_policy, read_dtype

    dtype = read_dtype(args.dtype or ("bfloat16" if torch.cuda.is_available() else "float32"))
    names = ("max_sequence_length", "condition_size", "negative_prompt")
    policy_kwargs = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    sizes = {"height": args.height, "width": args.width, **(of_rows or {})}
    return load_policy(args.model, sizes, policy_kwargs, dtype=dtype)


def settings_of(args: PictureArguments, policy: "FlowPolicy", **others: Any) -> "InferenceSettings":
    """How it draws; `others` are settings that are no options of every command."""
    from ..evaluation.pictures import InferenceSettings

    own = {
        name: getattr(policy, f"default_{name}") if getattr(args, name) is None else getattr(args, name)
        for name in ("num_inference_steps", "guidance_scale")
    }
    return InferenceSettings(args.height, args.width, size_from_source=args.size_from_source, **own, **others)
