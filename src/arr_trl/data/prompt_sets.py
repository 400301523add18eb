"""Benchmarks by name: prompts and labelled pairs in the files that their authors publish, as rows that the rest reads."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import requests
from datasets import Dataset, Features, IterableDataset, Value, load_dataset
from datasets import Image as ImageFeature


Row = dict[str, Any]


@dataclass(frozen=True)
class PromptSet:
    """
    Where a benchmark is, and how one of its rows reads.

    Args:
        name (`str`): what it is called here.
        task (`str`): `"text-to-image"` or `"image-editing"`.
        schema (`str`): the columns that are read, as its authors name them.
        row (`Callable`):
            A row of the file to `prompt`, `category`, `source_image` for editing and, in a set of labelled pairs,
            `images` and `label_rank`; `None` for a row that does not belong.
        repo (`str`, *optional*): dataset on the Hub.
        config (`str`, *optional*): configuration of that dataset.
        split (`str`, *optional*, defaults to `"train"`): split of that dataset.
        url (`str`, *optional*): file elsewhere; `{category}` stands for each of `categories`.
        categories (`tuple[str, ...]`, *optional*): files that the set is made of, one for each category.
        where (`str`): what to download for a local copy.
        pairs (`bool`, *optional*, defaults to `False`): whether the rows are labelled pairs.
    """

    name: str
    task: Literal["text-to-image", "image-editing"]
    schema: str
    row: Callable[[Row], Row | None]
    where: str
    repo: str | None = None
    config: str | None = None
    split: str = "train"
    url: str | None = None
    categories: tuple[str, ...] = ()
    pairs: bool = False


def _geneval(row: Row) -> Row:
    return {"prompt": row["prompt"], "category": row["tag"]}


def _dpg_bench(row: Row) -> Row | None:
    # one row for each question about a picture
    if int(row["proposition_id"]) != 1:
        return None
    return {"prompt": row["text"], "category": row["category_broad"]}


def _prompt_a_line(row: Row) -> Row:
    return {"prompt": row["text"].strip(), "category": row["category"]}


def _parti(row: Row) -> Row:
    return {"prompt": row["Prompt"], "category": row["Category"]}


def _drawbench(row: Row) -> Row:
    return {"prompt": row["Prompts"], "category": row["Category"]}


def _unigenbench(row: Row) -> Row:
    tested = json.loads(row["sub_dims_en"])["Testpoints"]
    return {"prompt": row["prompt_en"], "category": tested[0] if tested else None}


def _gedit(row: Row) -> Row | None:
    if row["instruction_language"] != "en":
        return None
    source = row["input_image_raw"] if row.get("input_image_raw") is not None else row["input_image"]
    return {"prompt": row["instruction"], "category": row["task_type"], "source_image": source}


def _imgedit(row: Row) -> Row:
    return {"prompt": row["prompt"], "category": row["edit_type"], "source_image": row["id"]}


def _mmrb2(row: Row) -> Row:
    images = [row["response_a_images"][0], row["response_b_images"][0]]
    first_is_better = row["chosen"].strip().lower().endswith("a")  # "A" or "response_a"
    pair = _pair(row["prompt_text"], row.get("prompt_source"), images, first_is_better)
    return pair | ({"source_image": row["prompt_images"][0]} if row.get("prompt_images") else {})


def _hpdv3(row: Row) -> Row:
    return _pair(row["prompt"], row.get("model1"), [row["path1"], row["path2"]], True)


def _editreward_bench(row: Row) -> Row | None:
    better, _, worse = row["ranking"].partition(">")
    if not worse:  # "A=B"
        return None
    # `candidate_1` is the first letter of "AvsC"; the sets of two have no such column filled
    first = (row.get("comparison_type") or "A")[0]
    images = [row["candidate_1"], row["candidate_2"]]
    pair = _pair(row["instruction"], row.get("dataset"), images, better.strip() == first)
    return pair | {"source_image": row["source_image"]}


def _editscore_bench(row: Row) -> Row | None:
    if row["dimension"] != "overall":
        return None
    # there is no label: the first of the two is the better one
    pair = _pair(row["instruction"], row["task_type"], row["output_images"][:2], True)
    return pair | {"source_image": row["input_image"]}


def _mj_bench(row: Row) -> Row:
    return _pair(row["caption"], row["category"], [row["image0"], row["image1"]], int(row["label"]) == 0)


def _pair(prompt: str, category: str | None, images: list, first_is_better: bool) -> Row:
    ranks = [1, 2] if first_is_better else [2, 1]
    return {"prompt": prompt, "category": category, "images": images, "label_rank": ranks}


_GITHUB = "https://raw.githubusercontent.com"
PROMPT_SETS: tuple[PromptSet, ...] = (
    PromptSet(
        name="geneval",
        task="text-to-image",
        schema="jsonl: `prompt`, `tag`",
        row=_geneval,
        url=f"{_GITHUB}/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl",
        where="prompts/evaluation_metadata.jsonl of github.com/djghosh13/geneval",
    ),
    PromptSet(
        name="dpg-bench",
        task="text-to-image",
        schema="csv: `item_id`, `text`, `proposition_id`, `category_broad`, one row a question",
        row=_dpg_bench,
        url=f"{_GITHUB}/TencentQQGYLab/ELLA/main/dpg_bench/dpg_bench.csv",
        where="dpg_bench/dpg_bench.csv of github.com/TencentQQGYLab/ELLA",
    ),
    PromptSet(
        name="t2i-compbench",
        task="text-to-image",
        schema="txt: one prompt a line, one file a category",
        row=_prompt_a_line,
        url=f"{_GITHUB}/Karine-Huang/T2I-CompBench/main/examples/dataset/{{category}}_val.txt",
        categories=("color", "shape", "texture", "spatial", "non_spatial", "complex"),
        where="the folder examples/dataset of github.com/Karine-Huang/T2I-CompBench",
    ),
    PromptSet(
        name="parti-prompts",
        task="text-to-image",
        schema="tsv: `Prompt`, `Category`",
        row=_parti,
        repo="nateraw/parti-prompts",
        where="PartiPrompts.tsv of the dataset nateraw/parti-prompts on the Hub",
    ),
    PromptSet(
        name="drawbench",
        task="text-to-image",
        schema="csv: `Prompts`, `Category`",
        row=_drawbench,
        repo="sayakpaul/drawbench",
        where="the dataset sayakpaul/drawbench on the Hub",
    ),
    PromptSet(
        name="unigenbench",
        task="text-to-image",
        schema="csv: `prompt_en`, `sub_dims_en` (JSON with `Testpoints`)",
        row=_unigenbench,
        url=f"{_GITHUB}/CodeGoat24/UniGenBench/main/data/test_prompts_en.csv",
        where="data/test_prompts_en.csv or test_prompts_en_long.csv of github.com/CodeGoat24/UniGenBench",
    ),
    PromptSet(
        name="gedit-bench",
        task="image-editing",
        schema="`instruction`, `instruction_language`, `task_type`, `input_image_raw` or `input_image`; English rows",
        row=_gedit,
        repo="stepfun-ai/GEdit-Bench",
        where="the dataset stepfun-ai/GEdit-Bench on the Hub",
    ),
    PromptSet(
        name="imgedit",
        task="image-editing",
        schema="singleturn.json: an object of `prompt`, `edit_type` and `id`, the picture beside the file",
        row=_imgedit,
        where="Benchmark/singleturn/singleturn.json, with the pictures, from the archive in the dataset sysuyy/ImgEdit "
        "on the Hub",
    ),
    PromptSet(
        name="mmrb2-t2i",
        task="text-to-image",
        schema="`prompt_text`, `response_a_images`, `response_b_images`, `chosen`",
        row=_mmrb2,
        repo="rl-research/multimodal-rewardbench-2",
        config="t2i",
        split="test",
        where="the dataset rl-research/multimodal-rewardbench-2 on the Hub",
        pairs=True,
    ),
    PromptSet(
        name="mmrb2-edit",
        task="image-editing",
        schema="`prompt_text`, `prompt_images`, `response_a_images`, `response_b_images`, `chosen`",
        row=_mmrb2,
        repo="rl-research/multimodal-rewardbench-2",
        config="edit",
        split="test",
        where="the dataset rl-research/multimodal-rewardbench-2 on the Hub",
        pairs=True,
    ),
    PromptSet(
        name="hpdv3",
        task="text-to-image",
        schema="json: `prompt`, `path1` (better), `path2`, `model1`",
        row=_hpdv3,
        where="test.json, with the unpacked pictures beside it, of the dataset MizzenAI/HPDv3 on the Hub",
        pairs=True,
    ),
    PromptSet(
        name="editreward-bench",
        task="image-editing",
        schema='`instruction`, `source_image`, `candidate_1`, `candidate_2`, `ranking` ("A>B"), `comparison_type`; '
        "level pairs are left out",
        row=_editreward_bench,
        repo="TIGER-Lab/EditReward-Bench",
        where="the dataset TIGER-Lab/EditReward-Bench on the Hub",
        pairs=True,
    ),
    PromptSet(
        name="editscore-bench",
        task="image-editing",
        schema="`instruction`, `input_image`, `output_images` (the better first), `task_type`, `dimension`; the rows of "
        "dimension `overall`",
        row=_editscore_bench,
        repo="EditScore/EditReward-Bench",
        where="the dataset EditScore/EditReward-Bench on the Hub",
        pairs=True,
    ),
    PromptSet(
        name="mj-bench",
        task="text-to-image",
        schema="parquet: `caption`, `image0`, `image1`, `label` (which is better), one file a category",
        row=_mj_bench,
        url="hf://datasets/MJ-Bench/MJ-Bench/data/{category}.parquet",
        categories=("alignment", "safety", "quality"),
        where="the folder data of the dataset MJ-Bench/MJ-Bench on the Hub",
        pairs=True,
    ),
)
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}


def find_prompt_set(name: str) -> PromptSet | None:
    """The benchmark of this name, `None` where there is none."""
    return next((prompt_set for prompt_set in PROMPT_SETS if prompt_set.name == name), None)


def load_prompt_set(name: str, path: str | Path | None = None) -> Dataset:
    """
    The prompts of a benchmark, in its order, each once.

    Args:
        name (`str`): one of [`PROMPT_SETS`], such as `"geneval"`.
        path (`str` or `Path`, *optional*):
            A local copy: the file, or the folder of those that are one file a category. By default the set is read from
            where its authors publish it.

    Returns:
        [`~datasets.Dataset`]: with `prompt`, `category`, and `source_image` for editing.

    Raises:
        `ValueError`: when there is no benchmark of this name, or its columns are not those that were expected.
        `FileNotFoundError`: when it cannot be reached, or has to be downloaded first; the message says what and where.
    """
    prompt_set = _named(name)
    rows: dict[Any, Row] = {}
    for number, row in enumerate(read_prompt_set(prompt_set, path)):
        # the prompts of labelled pairs come once for each pair; sources of an edit are told apart by their row
        key = row["prompt"] if prompt_set.task == "text-to-image" else number
        rows.setdefault(key, row)
    columns = {"prompt": Value("string"), "category": Value("string")}
    if prompt_set.task == "image-editing":
        columns["source_image"] = ImageFeature()
    values = {name: [row.get(name) for row in rows.values()] for name in columns}
    return Dataset.from_dict(values, features=Features(columns))


def read_prompt_set(prompt_set: PromptSet, path: str | Path | None = None) -> Iterator[Row]:
    """The rows of a benchmark as they are read; see [`load_prompt_set`]."""
    folder = None if path is None else Path(path).parent
    for row in _files(prompt_set, path):
        try:
            read = prompt_set.row(row)
        except (KeyError, IndexError, json.JSONDecodeError) as error:
            raise ValueError(
                f"A row of {prompt_set.name} has {', '.join(row)} and cannot be read ({error!r}); expected was "
                f"{prompt_set.schema}. Its authors may have changed it: use {prompt_set.where} in that form."
            ) from error
        if read is not None:
            yield _beside(read, folder)


def _named(name: str) -> PromptSet:
    prompt_set = find_prompt_set(name)
    if prompt_set is None:
        raise ValueError(
            f"There is no prompt set {name!r}; there are {', '.join(known.name for known in PROMPT_SETS)}."
        )
    return prompt_set


def _files(prompt_set: PromptSet, path: str | Path | None) -> Iterator[Row]:
    if path is None and prompt_set.repo is None and prompt_set.url is None:
        raise FileNotFoundError(
            f"{prompt_set.name} has to be downloaded first: get {prompt_set.where}, and give its path."
        )
    if prompt_set.categories:
        for category in prompt_set.categories:
            pattern = prompt_set.url if path is None else f"{path}/{prompt_set.url.rpartition('/')[2]}"
            for row in _open(prompt_set, pattern.format(category=category), path is not None):
                yield {**row, "category": category}
        return
    yield from _open(prompt_set, str(path or prompt_set.url or prompt_set.repo), path is not None)


def _open(prompt_set: PromptSet, name: str, local: bool) -> IterableDataset | list[Row]:
    suffix = Path(name).suffix
    if local and not Path(name).exists():
        raise FileNotFoundError(f"There is no {name}; for {prompt_set.name} get {prompt_set.where}.")
    if prompt_set.row is _imgedit:
        # an object of rows, which `datasets` would take for one row
        return list(json.loads(Path(name).read_text(encoding="utf-8")).values())
    try:
        if suffix in _BUILDERS and not local:
            return _fetched(prompt_set, name)
        if suffix in _BUILDERS:
            options = {"delimiter": "\t"} if suffix == ".tsv" else {}
            rows = load_dataset(_BUILDERS[suffix], data_files=name, split="train", streaming=True, **options)
        else:
            rows = load_dataset(name, prompt_set.config, split=prompt_set.split, streaming=True)
    except (OSError, ValueError) as error:  # `datasets` has both for a repository or a file that cannot be reached
        raise FileNotFoundError(
            f"{prompt_set.name} cannot be read from {name} ({type(error).__name__}: {error}); get {prompt_set.where}, and "
            "give its path."
        ) from error
    for column, feature in (rows.features or {}).items():
        if isinstance(feature, ImageFeature):  # decoded where they are used
            rows = rows.cast_column(column, ImageFeature(decode=False))
    return rows


def _fetched(prompt_set: PromptSet, url: str) -> list[Row]:
    """The rows of a file behind a URL. `datasets` would need aiohttp to read it there, which it does not install."""
    response = requests.get(url, timeout=30)
    response.raise_for_status()
    with TemporaryDirectory() as folder:
        copy = Path(folder) / url.rpartition("/")[2]
        copy.write_bytes(response.content)
        return list(_open(prompt_set, str(copy), local=True))


def _beside(row: Row, folder: Path | None) -> Row:
    """Paths of pictures are relative to the file that names them."""
    if folder is None:
        return row

    def place(picture: Any) -> Any:
        return str(folder / picture) if isinstance(picture, str) else picture

    placed = {"source_image": place(row["source_image"])} if "source_image" in row else {}
    placed |= {"images": [place(picture) for picture in row["images"]]} if "images" in row else {}
    return row | placed
