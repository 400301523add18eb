"""A trained judge as files: the adapter of its model, its question as a preset, and a card; in a folder or on the Hub."""

import os
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HTTPError
from peft import PeftModel

from ..adapter_names import CONFIG_FILE, PEFT_WEIGHTS_FILE
from ..folders import replacing_files
from ..hub_errors import hub_problem
from ..judges import Preset, load_preset
from ..judges.preset_source import BESIDE, PRESET_FILE
from ..release import Push, PushError, public_name
from ..shipped import place_of


WEIGHT_FILES = (CONFIG_FILE, PEFT_WEIGHTS_FILE)
EVALUATION_FILE = "judge_eval.json"
_SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what `--max-lora-rank` of vLLM may be


def save_weights(model: PeftModel, folder: str | os.PathLike, state_dict: dict | None = None) -> None:
    """
    Write an adapter as the two files that PEFT, transformers and vLLM load; other files of the folder are not touched.

    Args:
        model ([`~peft.PeftModel`]): the trained model, unwrapped.
        folder (`str` or `os.PathLike`): where the files go.
        state_dict (`dict`, *optional*): weights gathered from several processes.
    """
    with replacing_files(folder, WEIGHT_FILES) as written:
        # the embeddings are those of the base; PEFT would ask the Hub how many the base had
        model.save_pretrained(written, state_dict=state_dict, save_embedding_layers=False)


def question_of(preset: Preset, name: str, base_model: str, rank: int) -> Preset:
    """
    The question of a preset as that of a judge that was trained to answer it: weights beside it, and how to serve them.

    Args:
        preset ([`Preset`]): what was asked in training.
        name (`str`): the judge's name.
        base_model (`str`): what the adapter belongs to.
        rank (`int`): of the adapter, which a server has to be told.
    """
    base, most = public_name(place_of(base_model))[0], served_rank(rank)
    serve = f"vllm serve {base} --enable-lora --max-lora-rank {most} --lora-modules NAME=FOLDER_OR_REPOSITORY"
    return preset.model_copy(update={"name": name, "weights": BESIDE, "serve": serve, "licence": None})


def served_rank(rank: int) -> int:
    """The least `--max-lora-rank` of vLLM, which takes a few numbers only, that an adapter of this rank fits in."""
    return next((served for served in _SERVED_RANKS if served >= rank), rank)


def release_files(folder: str | os.PathLike) -> list[Path]:
    """
    The files of a judge in a folder.

    Raises:
        `ValueError`: when it holds no judge.
    """
    folder = Path(folder)
    named = [*WEIGHT_FILES, PRESET_FILE, "README.md"]
    missing = [name for name in named if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} holds no trained judge: it lacks {', '.join(missing)}.")
    preset = load_preset(folder)
    asked = [*preset.asks, *([] if preset.before is None else [preset.before])]
    templates = [f"{ask.name}.jinja2" for ask in asked]
    found = [folder / name for name in (*named, *templates, EVALUATION_FILE)]
    return [path for path in found if path.is_file()]


def push_judge(
    folder: str | os.PathLike,
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    dry_run: bool = False,
) -> Push:
    """
    Put a judge on the Hub in one commit: adapter, question, card and what was measured.

    Args:
        folder (`str` or `os.PathLike`): its folder.
        repo_id (`str`): repository such as `"user/name"`; created when missing.
        private (`bool`, *optional*): visibility of a repository that has to be created.
        token (`str`, *optional*): token with write permission; by default the one that is logged in.
        revision (`str`, *optional*): branch to commit to. `main` by default.
        commit_message (`str`, *optional*): first line of the commit message.
        dry_run (`bool`, *optional*, defaults to `False`): send nothing, and say what would be sent.

    Returns:
        [`~arr_trl.release.Push`]

    Raises:
        `ValueError`: when the folder holds no judge.
        [`~arr_trl.release.PushError`]: when the Hub refuses or cannot be reached; the files are kept.
    """
    files = {path.name: path for path in release_files(folder)}
    if dry_run:
        return Push(repo_id, files, None)
    api = HfApi(token=token)
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(name, path) for name, path in files.items()],
            commit_message=commit_message or "Upload judge",
            revision=revision,
        )
    except (HTTPError, OSError, RuntimeError) as error:
        raise PushError(
            f"Could not push the judge to {repo_id}: {hub_problem(error, repo_id)} Its files are kept in {folder}."
        ) from error
    return Push(repo_id, files, commit.commit_url)
