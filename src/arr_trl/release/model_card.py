"""The model card: README.md of a release, written from what a run really was and what was really measured."""

import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import constants, hf_hub_download

from ..adapter_names import (
    ADAPTER_FILES,
    DIFFUSERS_WEIGHTS_FILE,
    ROOT,
    TRANSFORMER_FOLDER,
    called,
    path_in_repo,
)
from ..evaluation.results import EvaluationResults
from ..folders import replacing
from ..intervals import wilson_interval
from ..rubrics import Rubric
from ..text_files import read_text
from . import front_matter
from .adapter import loading_call, public_name
from .card_sections import (
    PIPELINE_TAGS,
    UNPUBLISHED,
    UNPUBLISHED_FULL,
    CardSection,
    card_environment,
    check_readme,
    merge_section,
    read_sections,
)


# Settings of TrainingArguments that decide what is learned; the others say where and how it is logged.
_TRAINER_SETTINGS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "weight_decay",
    "max_grad_norm",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_steps",
    "num_train_epochs",
    "seed",
    "bf16",
    "fp16",
)
_EVALUATION = re.compile(r"(^### Evaluation\n\n).*?(?=^### )", re.MULTILINE | re.DOTALL)
_LEAD = re.compile(r"\A(## [^\n]*\n\n).*?(?=^A (?:LoRA adapter for|full fine-tune of) )", re.MULTILINE | re.DOTALL)
_PRIVATE_ENDINGS = ("token", "_key", "_dir", "_path", "_url", "_file", "_config")


@dataclass(frozen=True)
class AdapterCard:
    """
    What the model card says of one adapter. A field left at `None` appears in the card as not recorded.

    Args:
        subfolder (`str`):
            Folder of the adapter's files beside README.md; `"."` where they lie beside it themselves.
        base_model (`str`):
            Hub id or local folder of the base pipeline; of a folder only the name enters the card.
        pipeline_class (`str`):
            Name of the pipeline's class in diffusers.
        prompt (`str`):
            A prompt for the usage example.
        lora_r (`int`, *optional*):
            LoRA rank. `None` for a full fine-tune, all of whose weights were trained.
        lora_alpha (`float`, *optional*):
            LoRA alpha.
        target_modules (`str` or `list[str]`, *optional*):
            Modules that carry LoRA weights.
        transformer_class (`str`, *optional*):
            Name of the transformer's class in diffusers, of a full fine-tune.
        task (`str`, *optional*, defaults to `"text-to-image"`):
            `"text-to-image"` or `"image-editing"`.
        inference (`dict`, *optional*):
            Arguments of the pipeline's call in the evaluation, such as `num_inference_steps`.
        call_setup (`str`, *optional*):
            Code that the usage example has before the pipeline's call; see [`~arr_trl.FlowPolicy.call_setup`].
        dtype (`str`, *optional*, defaults to `"bfloat16"`):
            Precision in which the base was loaded.
        training (`dict`, *optional*):
            Settings of the run, in order; see [`training_settings`].
        license (`str`, *optional*):
            License id of the base; see [`base_license`].
        license_name (`str`, *optional*):
            Name of the license when `license="other"`.
        license_link (`str`, *optional*):
            URL of the license when `license="other"`.
        rewards (`list[str]`, *optional*):
            Names of the reward functions.
        rubric ([`Rubric`], *optional*):
            Rubric of the judge.
        further_rubrics (`list[Rubric]`, *optional*):
            Those of the other judges of an ensemble.
        judge (`str`, *optional*):
            Model of the judge; of a local folder only the name enters the card.
        datasets (`list[str]`, *optional*):
            Hub ids of the training prompts; local files are left out of the card.
        preferences (`dict[str, str]`, *optional*):
            What is known of given preferences that it was trained on: how many, and who labelled them.
        results ([`EvaluationResults`], *optional*):
            What the evaluation found.
        learning_curve (`list[dict]`, *optional*):
            Measurements made during training, each with `step` and the same metrics, 0 to 1.
        samples (`str`, *optional*):
            File name of the sample sheet beside README.md.
        train_seconds (`float`, *optional*):
            Wall time of training.
        hardware (`str`, *optional*):
            What it ran on.
        versions (`dict[str, str]`, *optional*):
            Versions of the libraries.
        method (`str`, *optional*):
            What trained, such as `"RPO"`.
        paper (`dict[str, str]`, *optional*):
            `title` and arXiv `id` of what proposed it.
        tags (`list[str]`, *optional*):
            Tags of the front matter that say what trained and what rewarded.
        released (`str`, *optional*):
            Which weights these are, such as `"step 2 of 6, the best by eval_win_rate"`.
        gallery (`list[dict[str, str]]`, *optional*):
            Pictures that the Hub shows above the card: `file` beside README.md and `prompt` of each.
    """

    subfolder: str
    base_model: str
    pipeline_class: str
    prompt: str
    lora_r: int | None = None
    lora_alpha: float | None = None
    target_modules: str | list[str] | None = None
    transformer_class: str | None = None
    task: Literal["text-to-image", "image-editing"] = "text-to-image"
    inference: Mapping[str, Any] = field(default_factory=dict)
    call_setup: str = ""
    dtype: str = "bfloat16"
    training: Mapping[str, Any] = field(default_factory=dict)
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    rewards: list[str] = field(default_factory=list)
    rubric: Rubric | None = None
    further_rubrics: list[Rubric] = field(default_factory=list)
    judge: str | None = None
    datasets: list[str] = field(default_factory=list)
    preferences: Mapping[str, str] = field(default_factory=dict)
    results: EvaluationResults | None = None
    learning_curve: list[Mapping[str, float]] = field(default_factory=list)
    samples: str | None = None
    train_seconds: float | None = None
    hardware: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    paper: Mapping[str, str] | None = None
    tags: list[str] = field(default_factory=list)
    released: str | None = None
    gallery: list[Mapping[str, str]] = field(default_factory=list)


def write_model_card(folder: str | os.PathLike, card: AdapterCard) -> Path:
    """
    Write README.md of a release, or bring it up to date.

    Sections of other adapters, text outside the sections, and front matter that people added are kept to the letter.

    Args:
        folder (`str` or `os.PathLike`):
            Folder of the release, in which the adapter is a subfolder.
        card ([`AdapterCard`]):
            What to say of the adapter.

    Returns:
        `pathlib.Path`: the README.

    Raises:
        `ValueError`: when README.md is there and cannot be brought up to date; see [`check_model_card`].
    """
    folder = Path(folder)
    path = folder / "README.md"
    existing = read_text(path) if path.is_file() else None
    readme = merge_section(existing, adapter_section(card), title=folder.resolve().name)
    with replacing(path) as written:
        written.write_bytes(readme.encode())
    return path


def check_model_card(folder: str | os.PathLike) -> None:
    """
    Find out before a run that README.md of a release, which people may have edited, could not be brought up to date.

    Raises:
        `ValueError`: when its front matter or a section is damaged; it is named.
    """
    path = Path(folder, "README.md")
    if path.is_file():
        check_readme(read_text(path))


def adapter_section(card: AdapterCard) -> CardSection:
    """The section of README.md that `card` describes."""
    base_name, base_is_local = public_name(card.base_model)
    results = card.results
    datasets = [name for name, is_local in map(public_name, card.datasets) if not is_local]
    body = (
        card_environment()
        .get_template("section.md.jinja2")
        .render(
            card=card,
            name=called(card.subfolder),
            at_root=card.subfolder == ROOT,
            loader=loading_call(card.pipeline_class),
            base_name=base_name,
            base_is_local=base_is_local,
            judge=card.judge and public_name(card.judge)[0],
            datasets=datasets,
            place=UNPUBLISHED_FULL if card.lora_r is None else UNPUBLISHED,
            is_full=card.lora_r is None,
            adapter_files=[path_in_repo(card.subfolder, file) for file in _files(card)],
            transformer_folder=path_in_repo(card.subfolder, TRANSFORMER_FOLDER),
            weight_name=DIFFUSERS_WEIGHTS_FILE,
            targets=[card.target_modules]
            if isinstance(card.target_modules, str)
            else sorted(card.target_modules or []),
            results=results,
            success=_success_rows(results),
            duration=_duration(card.train_seconds),
        )
    )
    facts = {
        "subfolder": card.subfolder,
        "base_model": None if base_is_local else base_name,
        "base_name": base_name,
        "task": card.task,
        "license": card.license,
        "license_name": card.license_name,
        "license_link": card.license_link,
        "datasets": datasets,
        "r": card.lora_r,
        "lora_alpha": card.lora_alpha,
        "samples": card.samples,
        "gallery": [dict(picture) for picture in card.gallery],
        "tags": card.tags,
        **_measured(results, card.subfolder, card.task, datasets),
    }
    return CardSection(facts, body)


def _files(card: AdapterCard) -> tuple[str, ...]:
    """What lies in the folder that a section is of."""
    return (f"{TRANSFORMER_FOLDER}/",) if card.lora_r is None else ADAPTER_FILES


def record_results(folder: str | os.PathLike, subfolder: str, results: EvaluationResults) -> bool:
    """
    Bring the evaluation in the model card of a release up to date, in its text and its `model-index`; all else stays.

    Args:
        folder (`str` or `os.PathLike`):
            Folder of the release, with README.md.
        subfolder (`str`):
            The adapter that was evaluated.
        results ([`EvaluationResults`]):
            What was found.

    Returns:
        `bool`: whether there is a card with a section for this adapter.

    Raises:
        `ValueError`: when README.md cannot be brought up to date; see [`check_model_card`].
    """
    path = Path(folder, "README.md")
    readme = read_text(path) if path.is_file() else ""
    section = next((section for section in read_sections(readme) if section.subfolder == subfolder), None)
    if section is None:
        return False
    lead, text = (
        card_environment().get_template(name).render(results=results, success=_success_rows(results)).strip()
        for name in ("lead.md.jinja2", "evaluation.md.jinja2")
    )
    body = _EVALUATION.sub(lambda found: f"{found[1]}{text}\n\n", section.body)
    body = _LEAD.sub(lambda found: found[1] + (f"{lead}\n\n" if lead else ""), body)
    facts = section.facts | _measured(results, subfolder, section.facts["task"], section.facts["datasets"])
    readme = merge_section(readme, CardSection(facts, body), title=Path(folder).resolve().name)
    with replacing(path) as written:
        written.write_bytes(readme.encode())
    return True


def _measured(results: EvaluationResults | None, subfolder: str, task: str, datasets: list[str]) -> dict[str, Any]:
    """The facts of a section that come from its evaluation."""
    return {
        "win_rate": results and results.win_rate,
        "win_rate_ci": results and results.win_rate_ci,
        "win_rate_by": results and results.win_rate_by,
        "metrics": _metrics(results, subfolder, task, datasets),
    }


def training_settings(args: Any) -> dict[str, Any]:
    """
    The settings of a run that a model card shows: the fields of the trainers here and of the user's own configuration,
    then those of `TrainingArguments` that decide what is learned. Tokens, paths, addresses and names that are deprecated
    are left out.

    Args:
        args (`transformers.TrainingArguments`):
            The run's configuration, a dataclass.
    """
    ours = takewhile(lambda cls: cls.__module__.split(".")[0] not in ("trl", "transformers"), type(args).__mro__)
    own = {name for cls in ours for name in inspect.get_annotations(cls)}
    names = [
        f.name
        for f in fields(args)
        if f.name in own and not f.name.endswith(_PRIVATE_ENDINGS) and "Deprecated" not in f.metadata.get("help", "")
    ]
    names += [name for name in _TRAINER_SETTINGS if name not in names]
    settings = {name: getattr(args, name) for name in names}
    return {
        name: getattr(value, "value", value)  # enums of transformers by their value
        for name, value in settings.items()
        if value is None or isinstance(value, bool | int | float | str | list | tuple)
    }


def base_license(base_model: str | os.PathLike) -> dict[str, str | None]:
    """
    License of a base model, from its own model card.

    Args:
        base_model (`str` or `os.PathLike`):
            Hub id or local folder.

    Returns:
        `dict`: `license`, `license_name` and `license_link` as [`AdapterCard`] takes them; all `None` when the base
        has no card, names no license, or cannot be reached.
    """
    unknown = {"license": None, "license_name": None, "license_link": None}
    name, is_local = public_name(base_model)
    source = Path(base_model, "README.md") if is_local else name
    if is_local and not source.is_file():
        return unknown
    try:
        _, matter, _, _ = front_matter.split(read_text(source if is_local else hf_hub_download(name, "README.md")))
    except (OSError, ValueError):  # no card, no access, no connection; or one that cannot be read
        return unknown
    found = {key: next(iter(matter.words(key)), None) for key in unknown}
    link = found["license_link"]
    if link and not is_local and "://" not in link:  # a file of the base's repository
        found["license_link"] = f"{constants.ENDPOINT}/{name}/blob/main/{link}"
    return found


def _success_rows(results: EvaluationResults | None) -> list[dict[str, Any]]:
    if results is None or results.base is None or results.trained is None:
        return []
    pairs = {name: (rate, results.trained.success[name]) for name, rate in results.base.success.items()}
    pairs["**all criteria**"] = (results.base.success_all, results.trained.success_all)
    rows = []
    for name, (base, trained) in pairs.items():
        base_ci, trained_ci = wilson_interval(base, results.prompts), wilson_interval(trained, results.prompts)
        rows.append(
            {
                "name": name,
                "base": base,
                "base_ci": base_ci,
                "trained": trained,
                "trained_ci": trained_ci,
                # the two are not known pair by pair: where their intervals are apart the difference is no chance
                "more": trained_ci[0] > base_ci[1],
                "less": trained_ci[1] < base_ci[0],
            }
        )
    return rows


def _metrics(
    results: EvaluationResults | None, subfolder: str, task: str, datasets: list[str]
) -> list[dict[str, Any]]:
    """The measured results as keyword arguments of [`~huggingface_hub.EvalResult`]."""
    if results is None:
        return []
    measured = []
    if results.win_rate is not None:
        by = "Judge" if results.win_rate_by is None else results.win_rate_by
        measured.append(("win_rate", f"{by}: win rate against the base", results.win_rate, results.win_rate_ci))
    if results.trained is not None:
        rate = results.trained.success_all
        measured.append(("success_all", "All criteria met", rate, wilson_interval(rate, results.prompts)))
    return [
        {
            "task_type": PIPELINE_TAGS[task],
            "dataset_type": datasets[0] if datasets else "held-out-prompts",
            "dataset_name": f"{results.prompts} held-out prompts",
            "metric_type": kind,
            "metric_name": f"{name} ({called(subfolder)})",
            "metric_value": round(value, 4),
            "metric_args": {"adapter": subfolder}
            | ({"interval_95": [round(end, 4) for end in interval]} if interval else {}),
        }
        for kind, name, value, interval in measured
    ]


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
