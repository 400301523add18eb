"""What the options of `arr-trl rubric` make: the models that are asked, and the pairs that are read."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import TINY_SCENES
from .rubric_arguments import GenerateArguments, ModelArguments, PairArguments


if TYPE_CHECKING:
    from ..chat import ChatModel
    from ..data.preferences import Preference
    from ..judges import RubricJudge, VerdictStore


def build_models(
    args: ModelArguments, language: str, output: Path, watch=lambda model: model, max_tokens: int = 4096
) -> tuple["ChatModel", "RubricJudge"]:
    """The model that writes, and the judge; both are asked for a sign of life."""
    from ..judges import RubricJudge

    judge_model = build_chat_model(args, args.judge_model, args.base_url, args.api_key_env)
    writer = judge_model
    if args.writer_model is not None or args.writer_base_url is not None:
        writer = build_chat_model(
            args,
            args.writer_model or args.judge_model,
            args.writer_base_url or args.base_url,
            args.writer_api_key_env or args.api_key_env,
        )
        writer.check()
    judge = RubricJudge(
        rubric="auto",  # every question names the rubric it is about
        model=judge_model,
        decide=args.decide,
        language=language,
        store=args.store or output.with_suffix(".sqlite"),
        max_tokens=max_tokens,
    )
    judge.check()
    judge.model = watched = watch(judge_model)  # from here on: the check is no part of what the rubric costs
    return watched if writer is judge_model else watch(writer), judge


def build_embedder(args: GenerateArguments, store: "VerdictStore") -> Callable:
    from ..autorubric.embeddings import ServerEmbedder, hashed_tfidf

    if args.embedding_model is None:
        return hashed_tfidf
    url = args.embedding_base_url or args.base_url
    if url is None:
        raise ValueError("`embedding_model` needs `embedding_base_url`, the URL of its server.")
    embed = ServerEmbedder(args.embedding_model, url, store, os.environ.get(args.api_key_env))
    embed(["Every object that the caption names is there."])  # a server that is not there is found now
    return embed


def build_chat_model(args: ModelArguments, name: str, base_url: str | None, api_key_env: str) -> "ChatModel":
    if name == TINY_SCENES:
        from ..tiny_scenes import TinyScenesJudge

        return TinyScenesJudge()
    from ..chat import HTTPChatModel

    if base_url is None:
        raise ValueError(f"The model {name} needs `base_url`, the URL of the server that runs it.")
    return HTTPChatModel(
        name, base_url=base_url, api_key=os.environ.get(api_key_env), max_concurrency=args.max_concurrency
    )


def read_pairs(args: PairArguments, skipped: list[str]) -> Iterator["Preference"]:
    """The pairs that are asked for; fewer are told."""
    if args.limit < 2:
        raise ValueError(f"limit={args.limit} has to be at least 2 pairs.")
    count = 0
    for pair in usable_pairs(args.dataset, skipped, args.max_bad_rows, args):
        count += 1
        yield pair
        if count == args.limit:
            break
    for sentence in skipped[:3]:
        print(f"Left out: {sentence}", file=sys.stderr)
    if len(skipped) > 3:
        print(f"Left out: {len(skipped) - 3} more rows; the report has all of them.", file=sys.stderr)
    if count == 0:
        raise ValueError(f"{args.dataset} holds no pair that can be used.{' ' + skipped[0] if skipped else ''}")
    if count < args.limit:
        print(f"{args.dataset} has {count} pairs that can be used, not the {args.limit} of `limit`.", file=sys.stderr)


def usable_pairs(
    dataset: str, skipped: list[str], max_bad_rows: int, args: PairArguments | None = None
) -> Iterator["Preference"]:
    if dataset == TINY_SCENES:
        from ..tiny_scenes import preferences

        yield from preferences(args.limit)
        return
    from ..data.preferences import load_preferences

    of_hub = (args.dataset_config, args.dataset_split, args.dataset_revision) if args else ()
    for pair in load_preferences(dataset, *of_hub):
        if not isinstance(pair, str):
            yield pair
            continue
        skipped.append(pair)
        if len(skipped) > max_bad_rows:
            raise ValueError(
                f"{dataset} has more than {max_bad_rows} rows that cannot be used. The last: {pair} Repair it, or "
                "raise `max_bad_rows`."
            )


def source_of(args: PairArguments) -> dict[str, str | None]:
    """Where the pairs come from, for the record."""
    from huggingface_hub import dataset_info
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

    if args.dataset == TINY_SCENES or Path(args.dataset).suffix in (".jsonl", ".json", ".parquet"):
        return {"dataset": Path(args.dataset).name}  # where it lay on this machine helps nobody
    try:
        revision = dataset_info(args.dataset, revision=args.dataset_revision).sha
    except (HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled):  # a folder, or from the cache
        revision = args.dataset_revision
    return {
        "dataset": args.dataset,
        "dataset_config": args.dataset_config,
        "dataset_split": args.dataset_split,
        "dataset_revision": revision,
    }
