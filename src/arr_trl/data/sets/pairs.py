"""Pairs and rankings of pictures that people have labelled, which judges are measured on."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...text_files import lines_of, read_json_of, read_text
from .base import Official, PromptSet, Row, a_list


_MARK = re.compile(r"<image_(\d+)>")
_COMPARISONS = {"3pair": 3, "4pair": 6}  # of one picture in TIGER's EditReward-Bench, all of which have to be right


def _mmrb2(row: Row) -> Row:
    images = [row["response_a_images"][0], row["response_b_images"][0]]
    first_is_better = {"a": True, "b": False}[row["chosen"].strip().lower().removeprefix("response_")]
    pair = _pair(_without_marks(row["prompt_text"]), row.get("prompt_source"), images, first_is_better)
    sources = row.get("prompt_images") or []
    # one stays one: most pipelines and readers know no other
    return pair | ({"source_image": sources if len(sources) > 1 else sources[0]} if sources else {})


def _without_marks(text: str) -> str:
    """
    Marks that say where a picture stands go where they stand for nothing but the picture, before the text or after it;
    inside it they are the words of the instruction.
    """
    before = re.match(r"\s*(?:<image_\d+>\s*)*", text).end()
    if not text[before : before + 1].islower():  # "<image_1> and <image_2> meet" goes on with a mark's own sentence
        text = text[before:]
    text = re.sub(r"([.!?\"”:\n])\s*(?:<image_\d+>\s*)+$", r"\1", text)
    return _MARK.sub(r"image \1", text).strip()


def _genai(row: Row, prompt: str, images: tuple[str, str], source: str | None) -> Row:
    votes = {"leftvote": [1, 2], "rightvote": [2, 1], "tievote": [1, 1], "bothbad_vote": [1, 1]}
    read = {"prompt": row[prompt], "images": [row[image] for image in images], "label_rank": votes[row["vote_type"]]}
    return read | ({} if source is None else {"source_image": row[source]})


def _hpdv3(row: Row) -> Row:
    models = [row.get("model1"), row.get("model2")]
    category = None if None in models else " and ".join(sorted(map(str, models)))
    return _pair(row["prompt"], category, [row["path1"], row["path2"]], True)


def _editreward_bench(row: Row) -> Row:
    kind, images = row.get("dataset"), [row["candidate_1"], row["candidate_2"]]
    read = {"prompt": row["instruction"], "category": kind, "images": images, "source_image": row["source_image"]}
    if kind in _COMPARISONS and row.get("id") is not None:
        name = str(row["id"])
        name = name.partition("_")[0] if "_" in name else name[:10]  # as its own code finds what belongs together
        read |= {"label_group": f"{kind} {name}", "label_group_size": _COMPARISONS[kind]}
    # `candidate_1` is the first letter of "AvsC"; the sets of two have no such column filled
    first, _, second = (row.get("comparison_type") or "AvsB").partition("vs")
    ranks = {
        **{level: [1, 1] for level in ("A=B", f"{first}={second}", f"{second}={first}")},
        **{better: [1, 2] for better in (f"{first}>{second}", f"{second}<{first}")},
        **{worse: [2, 1] for worse in (f"{second}>{first}", f"{first}<{second}")},
    }
    ranking = "".join((row["ranking"] or "").split())
    # a pair that nobody has ranked is no tie: it is left out as one without a label
    return read | ({"label_rank": ranks[ranking]} if ranking else {})


def _editscore_bench(row: Row, dimension: str) -> Row | None:
    if row["dimension"] != dimension:
        return None
    # there is no label: the first of the two is the better one
    pair = _pair(row["instruction"], row["task_type"], row["output_images"][:2], True)
    return pair | {"source_image": row["input_image"]}


def _vcreward_bench(row: Row) -> Row:
    ranks = {"Image A": [1, 2], "Image B": [2, 1]}[row["winner"]]
    pair = {"prompt": row["instruction"], "category": row["task"], "images": row["edited_images"]}
    return pair | {"label_rank": ranks, "source_image": row["source_image"]}


def _consistencyrank(row: Row) -> Row:
    pictures = f"images/{row['folder']}/"
    return {
        "prompt": row["prompt"],
        "category": None,
        "source_image": pictures + row["ref_image"],
        "images": [pictures + name for name in a_list(row["comp_images"])],
        "label_rank": [a_list(row["rank_images"]).index(name) + 1 for name in row["comp_images"]],
        "label_group": f"{row['folder']} {row['ref_image']}",
    }


def _rankings_with_prompts(path: Path) -> Iterator[Row]:
    """The rankings of a file, each with the prompt that prompt_data.jsonl beside it has for its folder."""
    beside = path.parent / "prompt_data.jsonl"
    of_folder = {str(row.get("idx")): row.get("prompt") for row in _objects_of(beside)}
    for row in _objects_of(path):
        if of_folder.get(folder := str(row.get("folder"))) is None:
            raise ValueError(f"{beside} has no prompt for the folder {folder!r} of {path}; get both files again.")
        yield {**row, "prompt": of_folder[folder]}


def _objects_of(path: Path) -> Iterator[Row]:
    """The objects of a file that has one in each line."""
    for number, line in enumerate(lines_of(read_text(path)), 1):
        if line.strip():
            row = read_json_of(line, name := f"Line {number} of {path}")
            if not isinstance(row, dict):
                raise ValueError(f"{name} is not a JSON object: {line[:80]!r}.")
            yield row


def _mj_bench(row: Row) -> Row:
    first_is_better = {"0": True, "1": False}[str(row["label"])]
    return _pair(row["caption"], row["category"], [row["image0"], row["image1"]], first_is_better)


def _pair(prompt: str, category: str | None, images: list, first_is_better: bool) -> Row:
    ranks = [1, 2] if first_is_better else [2, 1]
    return {"prompt": prompt, "category": category, "images": images, "label_rank": ranks}


_HUB = "the dataset {} on the Hub"
PAIRS: tuple[PromptSet, ...] = (
    *(
        PromptSet(
            name=f"mmrb2-{config}",
            task=task,
            schema=f"`prompt_text`, {sources}`response_a_images`, `response_b_images`, `chosen`",
            row=_mmrb2,
            repo="rl-research/multimodal-rewardbench-2",
            config=config,
            split="test",
            where=_HUB.format("rl-research/multimodal-rewardbench-2"),
            pairs=True,
            official=(Official("MMRB2 accuracy", "accuracy_answered"),),
        )
        for config, task, sources in (
            ("t2i", "text-to-image", ""),
            ("edit", "image-editing", "`prompt_images`, "),
        )
    ),
    *(
        PromptSet(
            name=name,
            task=task,
            schema=f"`{prompt}`, {'' if source is None else f'`{source}`, '}`{images[0]}`, `{images[1]}`, `vote_type`",
            row=partial(_genai, prompt=prompt, images=images, source=source),
            repo="TIGER-Lab/GenAI-Bench",
            config=config,
            split="test_v1",
            where=_HUB.format("TIGER-Lab/GenAI-Bench"),
            pairs=True,
            ties=True,
            official=(Official("GenAI-Bench accuracy", "accuracy_3way"),),
        )
        for name, task, config, prompt, images, source in (
            (
                "genai-bench-t2i",
                "text-to-image",
                "image_generation",
                "prompt",
                ("left_image", "right_image"),
                None,
            ),
            (
                "genai-bench-edit",
                "image-editing",
                "image_edition",
                "instruct_prompt",
                ("left_output_image", "right_output_image"),
                "source_image",
            ),
        )
    ),
    PromptSet(
        name="hpdv3",
        task="text-to-image",
        schema="json: `prompt`, `path1` (better), `path2`, `model1`, `model2`",
        row=_hpdv3,
        where="test.json, with the unpacked pictures beside it, of the dataset MizzenAI/HPDv3 on the Hub",
        pairs=True,
        # the better one is always the first, so that only both orders together say something of a judge
        official=(Official("HPDv3 accuracy", "accuracy_mean"),),
    ),
    PromptSet(
        name="editreward-bench",
        task="image-editing",
        schema='`id`, `dataset`, `instruction`, `source_image`, `candidate_1`, `candidate_2`, `ranking` ("A>B", "A=B"), '
        "`comparison_type`",
        row=_editreward_bench,
        repo="TIGER-Lab/EditReward-Bench",
        where=_HUB.format("TIGER-Lab/EditReward-Bench"),
        pairs=True,
        ties=True,
        official=tuple(
            Official(f"EditReward-Bench {kind}", "accuracy_group", kind) for kind in ("2pair", "3pair", "4pair")
        ),
    ),
    *(
        PromptSet(
            name=name,
            task="image-editing",
            schema="`instruction`, `input_image`, `output_images` (the better first), `task_type`, `dimension`",
            row=partial(_editscore_bench, dimension=dimension),
            repo="EditScore/EditReward-Bench",
            where=_HUB.format("EditScore/EditReward-Bench"),
            pairs=True,
            official=(Official(f"EditReward-Bench {dimension}", "accuracy_macro"),),
        )
        for name, dimension in (
            ("editscore-bench", "overall"),
            ("editscore-bench-prompt-following", "prompt_following"),
            ("editscore-bench-consistency", "consistency"),
        )
    ),
    PromptSet(
        name="vcreward-bench",
        task="image-editing",
        schema='metadata.jsonl: `instruction`, `source_image`, `edited_images`, `winner` ("Image A"), `task`',
        row=_vcreward_bench,
        where="metadata.jsonl, with the pictures beside it, of the dataset GEditBench-v2/VCReward-Bench on the Hub",
        pairs=True,
        official=(Official("VCReward-Bench overall", "accuracy_answered_forward"),),
    ),
    PromptSet(
        name="consistencyrank",
        task="image-editing",
        schema="consistency_full_rank.jsonl: `folder`, `ref_image`, `comp_images`, `rank_images` (best first); "
        "prompt_data.jsonl: `idx`, `prompt`",
        row=_consistencyrank,
        read=_rankings_with_prompts,
        where="consistency_full_rank.jsonl and prompt_data.jsonl, with images.zip unpacked beside them, of the dataset "
        "X-GenGroup/ConsistencyRank-Bench on the Hub",
        pairs=True,
        official=(
            Official("accuracy", "position_accuracy"),
            Official("kendalltau", "kendall_official"),
            Official("spearmanr", "spearman_official"),
            Official("footrule_distance", "footrule_distance"),
            Official("top1_accuracy", "top1"),
            Official("bottom1_accuracy", "bottom1"),
        ),
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
