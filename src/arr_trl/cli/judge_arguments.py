"""The options of a judge, the same for every command that asks one, and the judge they make."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..text_files import read_json
from .arguments import TINY_SCENES


if TYPE_CHECKING:
    from ..chat import ChatModel
    from ..judges import JudgeReward


@dataclass
class JudgeArguments:
    """
    Which judge is asked, and how. `judge_model`, `rubric` (or `judge_preset`) and `base_url` take several values, one for
    each judge of an ensemble; a single value is that of all of them.
    """

    judge_model: list[str] | None = field(
        default=None,
        metadata={
            "help": "Name of the model that judges, or `tiny_scenes`. Several make an ensemble, and so do several "
            "rubrics."
        },
    )
    rubric: list[str] | None = field(
        default=None,
        metadata={
            "help": "The rubric the judge applies: a JSON or text file, a repository on the Hub, or `auto` for criteria "
            "per prompt."
        },
    )
    judge_preset: list[str] | None = field(
        default=None,
        metadata={
            "help": "A published judge in place of `rubric` and `judge_mode`: a name of `arr-trl judge list`, a JSON file, or "
            "a repository on the Hub. `judge_model` is then its weights unless another is given."
        },
    )
    base_url: list[str] | None = field(
        default=None,
        metadata={"help": "URL of the judge's OpenAI-compatible server, such as http://localhost:8000/v1."},
    )
    judge_provider: str | None = field(
        default=None,
        metadata={"help": "Inference provider to ask in place of a server, or `auto` to let the Hub choose."},
    )
    judge_local: bool = field(
        default=False, metadata={"help": "Run `judge_model` in this process with transformers, without a server."}
    )
    api_key_env: str | None = field(
        default=None,
        metadata={
            "help": "Environment variable that holds the judge's API key. Unset, `OPENAI_API_KEY` for a server, and the "
            "token of `hf auth login` for a provider."
        },
    )
    judge_mode: str = field(
        default="ranks",
        metadata={
            "help": "How the judge is asked: for `ranks` in JSON, for the `choice` of one token by its log-probability, "
            "or for a score of each picture alone (`pointwise`).",
            "choices": ["ranks", "choice", "pointwise"],
        },
    )
    judge_decide: str = field(
        default="ranks",
        metadata={
            "help": "What decides: the overall `ranks`, or the `criteria`, added up by weight, essential ones first.",
            "choices": ["ranks", "criteria"],
        },
    )
    judge_tie_margin: float | None = field(
        default=None,
        metadata={
            "help": "Difference up to which a pair is a tie: of probabilities with `judge_mode=choice` (unset, .05), of "
            "scores with `judge_preset` (unset, the preset's), and of mean margins or scores with `judge_rule=mean_margin` or "
            "`weighted_scores` (unset, 0)."
        },
    )
    judge_calibration: str | None = field(
        default=None,
        metadata={
            "help": "File that `arr-trl judge calibrate` wrote, in place of `judge_tie_margin`, with `judge_mode=choice`."
        },
    )
    judge_score_range: list[int] = field(
        default_factory=lambda: [0, 10],
        metadata={"help": "Worst and best score, with `judge_mode=pointwise`.", "nargs": 2},
    )
    judge_rule: str = field(
        default="majority",
        metadata={
            "help": "How an ensemble decides: by `majority`, the `mean_margin` of pairs, or `weighted_scores`.",
            "choices": ["majority", "mean_margin", "weighted_scores"],
        },
    )
    judge_weights: list[float] | None = field(
        default=None,
        metadata={"help": "With `judge_rule=weighted_scores`, how much each judge counts. Unset, 1 each."},
    )
    judge_normalise: str = field(
        default="group",
        metadata={
            "help": "With `judge_rule=weighted_scores`, what becomes of scores first: z-scores in the `group` of a prompt, "
            "or `none`.",
            "choices": ["group", "none"],
        },
    )
    judge_language: str = field(
        default="en", metadata={"help": "Language of the judge's prompt.", "choices": ["en", "zh"]}
    )
    judge_num_criteria: int = field(default=5, metadata={"help": "Most criteria per prompt, with `rubric=auto`."})
    judge_max_tokens: int = field(
        default=1024, metadata={"help": "Longest reply of the judge, in tokens. A preset has its own."}
    )
    judge_temperature: float | None = field(
        default=None, metadata={"help": "Sampling temperature of the judge. Unset, 0, or that of `judge_preset`."}
    )
    judge_max_concurrency: int = field(default=32, metadata={"help": "Requests in flight at once, 1 to 100."})
    judge_timeout_s: float = field(default=120.0, metadata={"help": "Seconds that one request may take."})
    judge_max_retries: int = field(
        default=4, metadata={"help": "Further tries after a timeout, a lost connection, a 429 or a 5xx."}
    )
    judge_max_image_size: int = field(
        default=1024, metadata={"help": "Longest side, in pixels, of the pictures that the judge gets."}
    )
    judge_sleep: bool = field(
        default=False,
        metadata={
            "help": "Put a vLLM server on the training GPU to sleep between rollouts; it needs `--enable-sleep-mode` and "
            "VLLM_SERVER_DEV_MODE=1."
        },
    )
    judge_extra_body: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Further fields of each request, as JSON; `null` removes a field of ours."}
    )

    def __post_init__(self):
        if len(self.judge_score_range) != 2:
            raise ValueError(
                f"judge_score_range={self.judge_score_range} has to be two numbers, worst and best score."
            )
        for name in ("judge_model", "rubric", "judge_preset", "base_url"):
            if isinstance(getattr(self, name), str):  # as YAML has it
                setattr(self, name, [getattr(self, name)])
        if isinstance(self.judge_extra_body, str):
            try:
                self.judge_extra_body = read_json(self.judge_extra_body)
            except ValueError as error:
                raise ValueError(f"judge_extra_body={self.judge_extra_body!r} is not JSON: {error}.") from None
        if not isinstance(self.judge_extra_body, dict | None):
            raise ValueError(
                f'judge_extra_body={self.judge_extra_body!r} has to be an object, such as {{"top_k": 1}}.'
            )


def build_judge(args: JudgeArguments, store: str | Path | None, **settings: Any) -> "JudgeReward":
    """
    The judge that the arguments describe, an ensemble where they name several models or rubrics. Nothing is asked yet.

    Args:
        args ([`JudgeArguments`]): the arguments.
        store (`str` or `Path`, *optional*): SQLite file that keeps the answers.
        **settings: what a command decides itself, such as `order` and `seed`; see [`~arr_trl.RubricJudge`].

    Raises:
        `ValueError`: when arguments are missing or contradict each other.
    """
    from ..judges import EnsembleJudge

    members = _preset_judges if args.judge_preset else _rubric_judges
    judges = members(args, store, **settings)
    if len(judges) == 1:
        if args.judge_weights is not None:
            raise ValueError("`judge_weights` are those of several judges; give several of `judge_model` or `rubric`.")
        return judges[0]
    policy = {name: settings[name] for name in ("max_failure_rate", "failure_window") if name in settings}
    has_margin = args.judge_tie_margin is not None and args.judge_rule != "majority"
    margin = {"tie_margin": args.judge_tie_margin} if has_margin else {}
    scores = {"weights": args.judge_weights, "normalise": args.judge_normalise}
    return EnsembleJudge(judges, rule=args.judge_rule, **scores, **margin, **policy)


def _rubric_judges(args: JudgeArguments, store: str | Path | None, **settings: Any) -> list["JudgeReward"]:
    from ..judges import RubricJudge

    if not args.judge_model or not args.rubric:
        raise ValueError(
            "A judge needs `judge_model` and `rubric`, who judges, and under which criteria; or `judge_preset`, a published "
            "judge."
        )
    if args.judge_calibration is not None and args.judge_tie_margin is not None and args.judge_rule == "majority":
        raise ValueError("`judge_calibration` has a tie margin of its own; leave `judge_tie_margin` out.")
    margin = (
        {} if args.judge_tie_margin is None or args.judge_mode != "choice" else {"tie_margin": args.judge_tie_margin}
    )
    members = _members(args, "rubric", args.judge_model)
    models = {(name, url): named_chat_model(args, name, url) for name, _, url in members}
    return [
        RubricJudge(
            rubric=rubric,
            model=models[name, url],
            mode=args.judge_mode,
            decide=args.judge_decide,
            score_range=tuple(args.judge_score_range),
            language=args.judge_language,
            num_criteria=args.judge_num_criteria,
            max_tokens=args.judge_max_tokens,
            temperature=args.judge_temperature or 0.0,
            store=store,
            calibration=args.judge_calibration,
            **margin,
            **settings,
        )
        for name, rubric, url in members
    ]


def _preset_judges(args: JudgeArguments, store: str | Path | None, **settings: Any) -> list["JudgeReward"]:
    from ..judges import PresetJudge, load_preset

    if args.rubric or args.judge_mode != "ranks" or args.judge_decide != "ranks":
        raise ValueError(
            "`judge_preset` has a question of its own; leave out `rubric`, `judge_mode` and `judge_decide`."
        )
    if args.judge_calibration is not None:
        raise ValueError("`judge_calibration` is of `judge_mode=choice`; a preset takes `judge_tie_margin`.")
    if settings.pop("criteria_dropout", 0.0):
        raise ValueError("`judge_criteria_dropout` is of rubrics; `judge_preset` has no criteria to leave out.")
    presets = {name: load_preset(name) for name in args.judge_preset}
    names = args.judge_model
    if not names:
        without = next((name for name, preset in presets.items() if preset.weights is None), None)
        if without is not None:
            raise ValueError(f"The preset {without} has no weights of its own; say with `judge_model` who is asked.")
        names = [presets[name].weights for name in args.judge_preset]
    members = _members(args, "judge_preset", names)
    models = {(name, url): named_chat_model(args, name, url) for name, _, url in members}
    margin = {} if args.judge_rule != "majority" else {"tie_margin": args.judge_tie_margin}
    return [
        PresetJudge(
            presets[preset], models[name, url], temperature=args.judge_temperature, store=store, **margin, **settings
        )
        for name, preset, url in members
    ]


def as_tournament(judge: "JudgeReward", pairs: str | None, **policy: Any) -> "JudgeReward":
    """
    The judge, comparing candidates two by two where `pairs` says which.

    Args:
        judge ([`~arr_trl.judges.JudgeReward`]): compares pairs.
        pairs (`str`, *optional*): `"all"`, `"cycle"` or a number of opponents; unset, the judge as it is.
        **policy: seed and limits of failure; see [`~arr_trl.TournamentJudge`].
    """
    if pairs is None:
        return judge
    from ..judges import TournamentJudge

    return TournamentJudge(judge, int(pairs) if pairs.isdecimal() else pairs, **policy)


def build_chat_model(args: JudgeArguments) -> "ChatModel":
    """
    The one model that the arguments name, to be asked without a rubric.

    Args:
        args ([`JudgeArguments`]): the arguments.

    Raises:
        `ValueError`: when they name none or several, or a rubric.
    """
    if len(args.judge_model or []) != 1 or len(args.base_url or [None]) != 1:
        raise ValueError("Give one `judge_model`, and one `base_url` or another way to reach it.")
    if args.rubric or args.judge_preset:
        raise ValueError(f"`{'rubric' if args.rubric else 'judge_preset'}` has no part in this; leave it out.")
    return named_chat_model(args, args.judge_model[0], (args.base_url or [None])[0])


def _members(args: JudgeArguments, what: str, models: list[str]) -> list[tuple[str, str, str | None]]:
    """Model, rubric or preset, and server of every judge."""
    from ..chat.addresses import address_of

    given = {"judge_model": models, what: getattr(args, what), "base_url": args.base_url or [None]}
    count = max(map(len, given.values()))
    for name, values in given.items():
        if len(values) not in (1, count):
            raise ValueError(f"{name} has {len(values)} values for {count} judges; give one, or one for each.")
    members = list(zip(*(values * (count // len(values)) for values in given.values()), strict=True))
    if len({(name, asked, url and address_of(url)) for name, asked, url in members}) < count:
        raise ValueError(
            f"Two judges of the ensemble have the same model and {what.removeprefix('judge_')} at the same server; they would "
            "be one judge asked twice."
        )
    return members


def named_chat_model(args: JudgeArguments, name: str, base_url: str | None) -> "ChatModel":
    """
    A chat model, reached as the arguments say.

    Args:
        args ([`JudgeArguments`]): the arguments.
        name (`str`): its name, or `tiny_scenes`.
        base_url (`str`, *optional*): its server.

    Raises:
        `ValueError`: when there is no way to reach it, or two.
    """
    ways = {"base_url": base_url, "judge_provider": args.judge_provider, "judge_local": args.judge_local or None}
    given = [way for way, value in ways.items() if value is not None]
    if name == TINY_SCENES:
        from ..tiny_scenes import TinyScenesJudge

        return TinyScenesJudge()
    if not given:
        raise ValueError(
            f"`judge_model={name}` needs `base_url`, the URL of the server that runs it, or `judge_provider`, or "
            "`judge_local`."
        )
    if len(given) > 1:
        raise ValueError(f"`{given[0]}` and `{given[1]}` are two ways to reach `judge_model={name}`; give one.")
    if args.judge_local:
        from ..chat.local import LocalChatModel

        return LocalChatModel(name, max_image_size=args.judge_max_image_size)
    from ..chat import HTTPChatModel

    return HTTPChatModel(
        name,
        base_url=base_url,
        api_key=os.environ.get(args.api_key_env or ("OPENAI_API_KEY" if base_url is not None else "")),
        provider=args.judge_provider if base_url is None and args.judge_provider != "auto" else None,
        max_concurrency=args.judge_max_concurrency,
        timeout_s=args.judge_timeout_s,
        max_retries=args.judge_max_retries,
        max_image_size=args.judge_max_image_size,
        extra_body=args.judge_extra_body,
        sleep=args.judge_sleep,
    )
