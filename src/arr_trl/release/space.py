"""A Gradio Space that draws with the base and with an adapter of a release, by the code of its model card."""

import ast
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HTTPError

from ..adapter_names import DIFFUSERS_WEIGHTS_FILE, called, path_in_repo
from ..folders import replacing
from ..hub_errors import hub_problem
from ..text_files import read_text
from .card_sections import CardSection, card_environment
from .push import Push, PushError, check_repo_id, patiently, released_sections


SDK_VERSION = "6.31.0"  # of gradio, with which the app was tried
_BLOCK = r"^```{language}\n(.*?)^```"
_USE = re.compile(r"^### How to use\n(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
# arguments of the pipeline's call that whoever looks at the Space gives, and what the app calls them
_GIVEN = {"image": "source", "mask_image": "mask", "prompt": "prompt"}
_SUFFIXES = {"source": "-source", "mask": "-mask"}  # of the pictures beside one of the gallery


@dataclass(frozen=True)
class _Snippet:
    """
    The code of a model card, taken apart: the lines of its `imports`; its other lines up to the picture, which say `base_model`
    and `adapters` anew; the `arguments` of the pipeline's call as source; the `packages` that it needs.
    """

    imports: str
    loading: str
    arguments: dict[str, str]
    packages: list[str]


def write_space(
    folder: str | os.PathLike,
    output: str | os.PathLike | None = None,
    subfolder: str | None = None,
    base_model: str | None = None,
    adapter_repo: str | None = None,
) -> Path:
    """
    Write a Gradio Space of an adapter: `app.py`, `requirements.txt` and `README.md`, with all that they read beside them.

    The app loads the pipeline with the code that the model card gives, and draws with base and adapter from the same noise.
    Its examples are the prompts of the gallery, which are the first of the evaluation, with their source pictures where
    the adapter edits.

    Args:
        folder (`str` or `os.PathLike`):
            Output folder of a training run, or the folder of an adapter in it.
        output (`str` or `os.PathLike`, *optional*):
            Where the Space goes. Unset, `space/<adapter>` in the output folder.
        subfolder (`str`, *optional*):
            The adapter, where the output folder has several.
        base_model (`str`, *optional*):
            Hub id or local folder of the base. Needed where the card does not name it, since it was a local folder.
        adapter_repo (`str`, *optional*):
            Repository on the Hub from which the app loads the adapter. Unset, its file is copied into the Space.

    Returns:
        `pathlib.Path`: the Space.

    Raises:
        `ValueError`: when there is no release, several adapters of which none is named, no name of the base, or a card whose
            code cannot be used.
    """
    folder = Path(folder)
    if subfolder is None and not (folder / "README.md").is_file() and (folder / DIFFUSERS_WEIGHTS_FILE).is_file():
        folder, subfolder = folder.resolve().parent, folder.resolve().name
    sections = released_sections(folder, subfolder)
    if len(sections) > 1:
        names = ", ".join(section.subfolder for section in sections)
        raise ValueError(f"{folder} has several adapters, {names}; say with `subfolder` which one the Space is of.")
    section = sections[0]
    if section.is_full:
        raise ValueError(
            f"{section.subfolder} is a full fine-tune, and a Space of `arr-trl space` switches an adapter on and off on one base; "
            "two whole transformers are more than it is made for. Train with use_peft=True for one, or write a Space with the "
            "code of the model card."
        )
    name = called(section.subfolder)
    base_model = base_model or section.facts["base_model"]
    if base_model is None:
        raise ValueError(
            f"README.md does not say where the base {section.facts['base_name']} is, which was a local folder; give "
            "`base_model`: its repository for a Space on the Hub, or its folder to try the Space on this machine."
        )
    if Path(base_model).exists():
        base_model = str(Path(base_model).resolve())
    if adapter_repo is not None:
        check_repo_id(adapter_repo)
    snippet = _taken_apart(section, base_model, adapter_repo)
    output = folder / "space" / name if output is None else Path(output)

    _check_free(output)

    texts = {
        "app.py": _app(folder, section, snippet),
        "requirements.txt": "\n".join(["torch", *snippet.packages, "gradio>=6", "spaces"]) + "\n",
        "README.md": _readme(section, base_model, adapter_repo),
    }
    for stale in _files_of(output):  # of another state of the release
        stale.unlink(missing_ok=True)
    for picture, _ in _examples(folder, section):
        (output / "examples").mkdir(parents=True, exist_ok=True)
        for source in picture.values():
            shutil.copyfile(source, output / "examples" / source.name)
    if adapter_repo is None:
        weights = path_in_repo(section.subfolder, DIFFUSERS_WEIGHTS_FILE)
        with replacing(output / weights) as written:
            shutil.copyfile(folder / weights, written)
    for file, text in texts.items():
        with replacing(output / file) as written:
            written.write_bytes(text.encode())
    return output


def push_space(
    space: str | os.PathLike,
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    dry_run: bool = False,
) -> Push:
    """
    Put a Space on the Hub, in one commit.

    Args:
        space (`str` or `os.PathLike`):
            What [`write_space`] wrote.
        repo_id (`str`):
            Space such as `"user/name"`; created when missing. Files of the same names are replaced.
        private (`bool`, *optional*):
            Visibility of a Space that has to be created; by default what the namespace prefers.
        token (`str`, *optional*):
            Token with write permission; by default the one that is logged in.
        revision (`str`, *optional*):
            Branch to commit to. `main` by default, which is the one that runs.
        commit_message (`str`, *optional*):
            First line of the commit message.
        dry_run (`bool`, *optional*, defaults to `False`):
            Tell what would be sent, without a connection.

    Returns:
        [`Push`]

    Raises:
        `ValueError`: when `repo_id` is not a name the Hub accepts, or the base of the Space is a folder of this machine.
        [`PushError`]: when the Hub refuses or cannot be reached; the message names the remedy.
    """
    space = Path(space)
    check_repo_id(repo_id)
    base_model = _base_of(space / "app.py")
    if Path(base_model).exists():
        raise ValueError(
            f"The Space loads its base from {base_model}, a folder of this machine; put the base on the Hub, and write the "
            "Space again with its repository as `base_model`."
        )
    files = {path.relative_to(space).as_posix(): path for path in _files_of(space)}
    if dry_run:
        return Push(repo_id, files)
    api, attempts = HfApi(token=token), patiently()
    try:
        repo_id = attempts(
            api.create_repo, repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True
        ).repo_id
        commit = attempts(
            api.create_commit,
            repo_id,
            [CommitOperationAdd(name, path) for name, path in files.items()],
            commit_message=commit_message or "Upload Space",
            repo_type="space",
            revision=revision,
        )
    except (HTTPError, OSError, RuntimeError, JSONDecodeError, ValueError) as error:
        raise PushError(
            f"Could not push the Space to {repo_id}: {hub_problem(error, repo_id)} A push is one commit, so nothing is half "
            f"there; the files are kept in {space}."
        ) from error
    return Push(repo_id, files, commit.commit_url)


def _taken_apart(section: CardSection, base_model: str, adapter_repo: str | None) -> _Snippet:
    use = _USE.search(section.body)
    found = use and re.search(_BLOCK.format(language="python"), use[1], re.MULTILINE | re.DOTALL)
    install = use and re.search(r"^pip install -U (.*)$", use[1], re.MULTILINE)
    try:
        tree = ast.parse(found[1] if found else "")
    except SyntaxError:
        tree = ast.Module([], [])
    assigned = {
        node.targets[0].id: node
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    calls = [node for node in ast.walk(assigned.get("image", tree)) if isinstance(node, ast.Call)]
    call = next((node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "pipe"), None)
    if call is None or install is None or not {"base_model", "adapters", "image"} <= set(assigned):
        raise ValueError(
            f"README.md has no code in the section of {section.subfolder}, under 'How to use', that sets base_model and adapters "
            "and draws `image = pipe(...)`; put it back as write_model_card writes it."
        )
    lines = found[1].splitlines()
    first = next(node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom))
    for name, value in (("base_model", base_model), ("adapters", adapter_repo)):
        node = assigned[name]
        literal = "str(here)" if value is None else card_environment().filters["literal"](value)
        lines[node.lineno - 1 : node.end_lineno] = [f"{name} = {literal}"] + [None] * (node.end_lineno - node.lineno)
    imports = [line for line in lines[: first.lineno - 1] if line and "load_image" not in line]
    loading = [line for line in lines[first.lineno - 1 : assigned["image"].lineno - 1] if line is not None]
    return _Snippet(
        imports="\n".join(imports),
        loading="\n".join(loading).strip(),
        arguments={keyword.arg: ast.get_source_segment(found[1], keyword.value) for keyword in call.keywords},
        packages=shlex.split(install[1]),
    )


def _app(folder: Path, section: CardSection, snippet: _Snippet) -> str:
    name, base_name = called(section.subfolder), section.facts["base_name"]
    inputs = [given for argument, given in _GIVEN.items() if argument in snippet.arguments]
    arguments = {argument: _GIVEN.get(argument, source) for argument, source in snippet.arguments.items()}
    arguments["generator"] = 'torch.Generator("cpu").manual_seed(int(seed))'
    prompt = ast.literal_eval(snippet.arguments["prompt"])
    examples = list(_examples(folder, section)) or [({}, prompt)]
    # an example without the picture that it is about leaves the one that is there
    shown = [given for given in inputs if given == "prompt" or all(given in pictures for pictures, _ in examples)]
    literal = card_environment().filters["literal"]
    rows = [
        [
            literal(text) if given == "prompt" else f'str(here / "examples" / {literal(pictures[given].name)})'
            for given in shown
        ]
        for pictures, text in examples
    ]
    return (
        card_environment()
        .get_template("space_app.py.jinja2")
        .render(
            name=name,
            base_name=base_name,
            title=f"{name} beside {base_name}",
            about=f"# {name}\n\nA LoRA adapter, beside its base {base_name}: the same prompt, the same settings, the same noise.",
            imports=snippet.imports,
            loading=snippet.loading,
            arguments=arguments,
            inputs=inputs,
            prompt=examples[0][1],
            examples=rows,
            shown=shown,
            of_gallery=bool(section.facts.get("gallery")),
        )
        + "\n"
    )


def _readme(section: CardSection, base_model: str, adapter_repo: str | None) -> str:
    name, facts = called(section.subfolder), section.facts
    models = [] if Path(base_model).exists() else [base_model]
    matter = {
        "title": f"{name} beside its base",
        "emoji": "🎨",
        "colorFrom": "indigo",
        "colorTo": "green",
        "sdk": "gradio",
        "sdk_version": SDK_VERSION,
        "app_file": "app.py",
        "license": facts["license"],
        "models": models + ([adapter_repo] if adapter_repo else []),
        "tags": ["arr_trl", "lora", "diffusers"],
    }
    header = yaml.safe_dump(
        {key: value for key, value in matter.items() if value}, allow_unicode=True, sort_keys=False
    )
    return (
        f"---\n{header}---\n\n# {name} beside its base\n\n"
        f"Draws with {facts['base_name']} and with the adapter {name}, from the same noise. Written by `arr-trl space`; on your "
        "own machine it runs with `pip install -r requirements.txt` and `python app.py`.\n"
    )


def _examples(folder: Path, section: CardSection) -> Iterator[tuple[dict[str, Path], str]]:
    """Of each picture of the gallery what it was edited from, where that is beside it, and its prompt."""
    for picture in section.facts.get("gallery", []):
        path = folder / picture["file"]
        beside = {given: path.with_stem(path.stem + suffix) for given, suffix in _SUFFIXES.items()}
        yield {given: file for given, file in beside.items() if file.is_file()}, picture["prompt"]


def _check_free(output: Path) -> None:
    readme = output / "README.md"
    if readme.is_file() and "\nsdk: gradio\n" not in read_text(readme):
        raise ValueError(f"{readme} is not that of a Space and would be written over; choose another `output`.")


def _base_of(app: Path) -> str:
    for node in ast.parse(read_text(app)).body if app.is_file() else []:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "base_model":
            return ast.literal_eval(node.value)
    raise ValueError(f"{app.parent} is no Space of `arr-trl space`: there is no app.py that sets base_model.")


def _files_of(space: Path) -> list[Path]:
    """What a Space is made of, and nothing that its app or its user left there."""
    own = [space / name for name in ("README.md", "app.py", "requirements.txt")]
    return [*own, *sorted(space.rglob(DIFFUSERS_WEIGHTS_FILE)), *sorted((space / "examples").glob("*.png"))]
