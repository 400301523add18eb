"""Prompts that benchmarks draw pictures from."""

import json
from functools import partial

from datasets import List, Value

from .base import GITHUB, PromptSet, Row, a_list


_UNIGENBENCH = "{}/CodeGoat24/UniGenBench/main/data/{}"
# what a row's JSON calls the test points and what each asks for, in either language
_TEST_POINTS = {"en": ("Testpoints", "Testpoint Description"), "zh": ("考点", "考点对应描述")}
_LINES = {"test_points": List(Value("string")), "test_point_descriptions": List(Value("string"))}


def _geneval(row: Row) -> Row:
    # a scorer needs `include` and `exclude`, of which each class has other keys
    return {"prompt": row["prompt"], "category": row["tag"], "metadata": json.dumps(row)}


def _geneval2(row: Row) -> Row:
    for question_and_answer in a_list(row["vqa_list"]):
        a_list(question_and_answer)
    return {"prompt": row["prompt"], "category": f"{row['atom_count']} atoms"} | {
        "atom_count": row["atom_count"],
        "vqa_list": row["vqa_list"],
        "skills": a_list(row["skills"]),
    }


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


def _unigenbench(row: Row, language: str) -> Row:
    tested = json.loads(row[f"sub_dims_{language}"])
    points, descriptions = (a_list(tested[name]) for name in _TEST_POINTS[language])
    return {
        "prompt": row[f"prompt_{language}"],
        "category": points[0] if points else None,
        "test_points": points,
        "test_point_descriptions": descriptions,
    }


def _qwen_image_bench(row: Row, language: str) -> Row:
    # "Quality / Detail / Edge Clarity; Alignment / Layout / 2D Space"
    facets = [facet.strip() for facet in row[f"dims_{language}"].split(";") if facet.strip()]
    category = facets[0].partition("/")[0].strip() if facets else None
    return {"prompt": row[f"prompt_{language}"], "category": category, "facets": facets}


TEXT_TO_IMAGE: tuple[PromptSet, ...] = (
    PromptSet(
        name="geneval",
        task="text-to-image",
        schema="jsonl: `prompt`, `tag`",
        row=_geneval,
        url=f"{GITHUB}/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl",
        where="prompts/evaluation_metadata.jsonl of github.com/djghosh13/geneval",
        features={"metadata": Value("string")},
    ),
    PromptSet(
        name="dpg-bench",
        task="text-to-image",
        schema="csv: `item_id`, `text`, `proposition_id`, `category_broad`, one row a question",
        row=_dpg_bench,
        url=f"{GITHUB}/TencentQQGYLab/ELLA/main/dpg_bench/dpg_bench.csv",
        where="dpg_bench/dpg_bench.csv of github.com/TencentQQGYLab/ELLA",
    ),
    PromptSet(
        name="geneval2",
        task="text-to-image",
        schema="jsonl: `prompt`, `atom_count`, `vqa_list` (questions and answers), `skills`",
        row=_geneval2,
        url=f"{GITHUB}/facebookresearch/GenEval2/main/geneval2_data.jsonl",
        where="geneval2_data.jsonl of github.com/facebookresearch/GenEval2",
        features={
            "atom_count": Value("int64"),
            "vqa_list": List(List(Value("string"))),
            "skills": List(Value("string")),
        },
    ),
    PromptSet(
        name="t2i-compbench",
        task="text-to-image",
        schema="txt: one prompt a line, one file a category",
        row=_prompt_a_line,
        url=f"{GITHUB}/Karine-Huang/T2I-CompBench/main/examples/dataset/{{category}}_val.txt",
        categories=(
            "color",
            "shape",
            "texture",
            "spatial",
            "3d_spatial",
            "non_spatial",
            "numeracy",
            "complex",
        ),
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
    *(
        PromptSet(
            name=name,
            task="text-to-image",
            schema="csv: `prompt_{0}`, `sub_dims_{0}` (JSON with `{1}` and `{2}`)".format(
                language, *_TEST_POINTS[language]
            ),
            row=partial(_unigenbench, language=language),
            url=_UNIGENBENCH.format(GITHUB, file),
            where=f"data/{file} of github.com/CodeGoat24/UniGenBench",
            features=_LINES,
        )
        for name, language, file in (
            ("unigenbench", "en", "test_prompts_en.csv"),
            ("unigenbench-en-long", "en", "test_prompts_en_long.csv"),
            ("unigenbench-zh", "zh", "test_prompts_zh.csv"),
            ("unigenbench-zh-long", "zh", "test_prompts_zh_long.csv"),
        )
    ),
    *(
        PromptSet(
            name=name,
            task="text-to-image",
            schema=f"jsonl: `prompt_{language}`, `dims_{language}` (facets, separated by semicolons)",
            row=partial(_qwen_image_bench, language=language),
            repo="Qwen/Qwen-Image-Bench",
            split="test",
            where="qwen_image_bench_hf_v0518.jsonl of the dataset Qwen/Qwen-Image-Bench on the Hub",
            features={"facets": List(Value("string"))},
        )
        for name, language in (("qwen-image-bench", "en"), ("qwen-image-bench-cn", "cn"))
    ),
)
