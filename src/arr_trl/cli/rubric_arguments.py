"""The options of `arr-trl rubric`: which models are asked, which pairs are read, and what each command takes beside them."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class ModelArguments:
    """Which models are asked, and where answers are kept."""

    judge_model: str = field(metadata={"help": "Name of the model that judges and writes, or `tiny_scenes`."})
    base_url: str | None = field(
        default=None, metadata={"help": "URL of its OpenAI-compatible server, such as http://localhost:8000/v1."}
    )
    api_key_env: str = field(
        default="OPENAI_API_KEY", metadata={"help": "Environment variable that holds the API key, if one is needed."}
    )
    writer_model: str | None = field(
        default=None, metadata={"help": "Another model that writes criteria, often a stronger one. Unset, the same."}
    )
    writer_base_url: str | None = field(default=None, metadata={"help": "Its server. Unset, the same."})
    writer_api_key_env: str | None = field(
        default=None, metadata={"help": "Environment variable with its API key. Unset, the same."}
    )
    decide: str = field(
        default="ranks",
        metadata={"help": "Whether overall ranks or summed criteria decide.", "choices": ["ranks", "criteria"]},
    )
    store: str | None = field(
        default=None,
        metadata={"help": "SQLite file of answers: what is in it is not asked again. Unset, beside the output."},
    )
    max_concurrency: int = field(default=32, metadata={"help": "Requests in flight at once, 1 to 100."})
    price_in: float | None = field(default=None, metadata={"help": "Price of a million tokens in, for the cost."})
    price_out: float | None = field(default=None, metadata={"help": "Price of a million tokens out, for the cost."})


@dataclass(kw_only=True)
class PairArguments:
    """Which preference pairs are read."""

    dataset: str = field(
        metadata={
            "help": "Preference pairs: a .jsonl, .json or .parquet file, or a dataset on the Hub, which is streamed."
        }
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the dataset."})
    limit: int = field(default=150, metadata={"help": "How many pairs to take, those that are held out included."})
    max_bad_rows: int = field(
        default=100, metadata={"help": "How many rows that cannot be used are left out before the run stops."}
    )


@dataclass(kw_only=True)
class GenerateArguments(PairArguments, ModelArguments):
    """What `arr-trl rubric generate` takes beside [`AutoRubricConfig`]."""

    output: str = field(
        default="rubric.json",
        metadata={"help": "JSON file to write; a report and a page with the pairs are put beside it."},
    )
    name: str | None = field(default=None, metadata={"help": "Name of the rubric. Unset, that of the file."})
    guide: str | None = field(
        default=None,
        metadata={"help": "Curated examples with a `rationale`, as pairs in a file; shown before every pair."},
    )
    embedding_model: str | None = field(
        default=None,
        metadata={"help": "Sentence embedder that selects diverse criteria. Unset, they are selected by wording."},
    )
    embedding_base_url: str | None = field(default=None, metadata={"help": "Its server. Unset, the judge's."})
    dry_run: bool = field(
        default=False, metadata={"help": "Print the number of requests and the first in full, and ask nothing."}
    )


@dataclass(kw_only=True)
class VerifyArguments(PairArguments, ModelArguments):
    """What `arr-trl rubric verify` takes."""

    rubric: str = field(
        default="rubric.json", metadata={"help": "The rubric: a JSON, text or Markdown file, or a repository."}
    )
    report: str | None = field(
        default=None, metadata={"help": "HTML page with every pair to write, up to 500. Unset, none is written."}
    )
    language: str = field(default="en", metadata={"help": "Language of the prompt.", "choices": ["en", "zh"]})
    update: bool = field(
        default=False,
        metadata={
            "help": "Write what was measured into the rubric, a JSON file, as the figures of the text it has now."
        },
    )


@dataclass(kw_only=True)
class ZeroShotArguments(ModelArguments):
    """What `arr-trl rubric zero-shot` takes."""

    description: str = field(default="", metadata={"help": "What the images are for, in a sentence or two."})
    task: str = field(
        default="text-to-image",
        metadata={"help": "What is judged.", "choices": ["text-to-image", "image-editing"]},
    )
    output: str = field(default="rubric.json", metadata={"help": "JSON file to write."})
    name: str | None = field(default=None, metadata={"help": "Name of the rubric. Unset, that of the file."})
    max_themes: int = field(default=5, metadata={"help": "Most themes of the rubric."})
    max_tips: int = field(default=5, metadata={"help": "Most criteria under one theme."})
    language: str = field(default="en", metadata={"help": "Language of the template.", "choices": ["en", "zh"]})
    max_tokens: int = field(default=4096, metadata={"help": "Longest reply, in tokens."})
    temperature: float = field(default=0.0, metadata={"help": "Sampling temperature."})
