"""The options of the commands of `arr-trl pairs`."""

from dataclasses import dataclass, field

from .judge_arguments import JudgeArguments
from .picture_arguments import PictureArguments


@dataclass
class DatasetArguments:
    """Where pairs go."""

    output: str = field(
        default="pairs",
        metadata={"help": "Folder for the dataset, and for `work`, what a command that is stopped goes on from."},
    )
    test_share: float = field(
        default=0.05, metadata={"help": "Share of the prompts whose pairs are held out as split `test`."}
    )
    repo_id: str | None = field(default=None, metadata={"help": "Dataset on the Hub to push to, such as user/pairs."})
    private: bool = field(default=False, metadata={"help": "Create that dataset as private."})


@dataclass
class FromRunArguments(DatasetArguments):
    """What `arr-trl pairs from-run` takes; what stands behind the command without an option is `source`."""

    source: str | None = field(
        default=None,
        metadata={
            "help": "Output folder of a run with `log_completions`, or the dataset on the Hub that it pushed to."
        },
    )
    pairs: str = field(
        default="extremes",
        metadata={
            "help": "Of the candidates of a prompt the best against the worst, all pairs that differ, or all as a ranking for "
            "`loss_type: rank`.",
            "choices": ["extremes", "all", "ranking"],
        },
    )
    min_margin: float = field(
        default=0.0,
        metadata={"help": "Leave out verdicts that were less clear than this, 0 to 1, where the judge told."},
    )


@dataclass
class PairsArguments(DatasetArguments, PictureArguments, JudgeArguments):
    """What the commands that draw take beside their settings."""

    adapter: str | None = field(
        default=None, metadata={"help": "An adapter on the model: a folder, a LoRA file, or `user/repo/subfolder`."}
    )
    judge_store: str | None = field(
        default=None, metadata={"help": "SQLite file of answers. Unset, `work/answers.sqlite` in the output folder."}
    )
    price_in: float | None = field(default=None, metadata={"help": "Price of a million tokens in, for the cost."})
    price_out: float | None = field(default=None, metadata={"help": "Price of a million tokens out, for the cost."})
    dry_run: bool = field(
        default=False, metadata={"help": "Print how much there is to do and the first questions, and do nothing."}
    )


@dataclass
class BestWorstArguments(PairsArguments):
    """What `arr-trl pairs best-worst` takes beside [`BestWorstConfig`]."""

    judge_pairs: str | None = field(
        default=None,
        metadata={
            "help": "Compare the candidates of a prompt two by two: `all` pairs, a `cycle`, or a number of opponents for "
            "each. Unset, the judge sees all at once."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        self.judge_pairs = None if self.judge_pairs is None else str(self.judge_pairs)  # YAML has numbers


@dataclass
class RichArguments(PairsArguments):
    """What `arr-trl pairs rich` takes beside [`RichPairsConfig`]."""

    edit_model: str | None = field(
        default=None,
        metadata={"help": "The editor: a model id or a folder. Unset, `model`, where that edits pictures itself."},
    )
    edit_adapter: str | None = field(default=None, metadata={"help": "An adapter on the editor, as `adapter`."})
    edit_num_inference_steps: int | None = field(
        default=None, metadata={"help": "Its denoising steps. Unset, those that it is recommended with."}
    )
    edit_guidance_scale: float | None = field(
        default=None, metadata={"help": "Its guidance. Unset, what it is recommended with."}
    )
    edit_condition_size: int | None = field(
        default=None, metadata={"help": "Side of the square whose area pictures are scaled to before it edits them."}
    )
    edit_max_sequence_length: int | None = field(
        default=None, metadata={"help": "Its text tokens. Unset, what its pipeline's `__call__` takes."}
    )
    critic_model: str | None = field(
        default=None, metadata={"help": "Name of the model that finds faults. Unset, the judge's."}
    )
    critic_base_url: str | None = field(default=None, metadata={"help": "Its server. Unset, the judge's."})
    critic_api_key_env: str | None = field(
        default=None, metadata={"help": "Environment variable with its API key. Unset, the judge's."}
    )
    instruct_model: str | None = field(
        default=None,
        metadata={"help": "Name of the model that writes instructions. Unset, the one that finds faults."},
    )
    instruct_base_url: str | None = field(
        default=None, metadata={"help": "Its server. Unset, that of the one that finds faults."}
    )
    instruct_api_key_env: str | None = field(
        default=None, metadata={"help": "Environment variable with its API key. Unset, of the one that finds faults."}
    )
