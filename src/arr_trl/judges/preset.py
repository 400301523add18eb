"""A published judge as data: what it is asked, how its replies are read, and what they add up to."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from .combine import COMBINE
from .prompts import render_source, source_digest, variables_of
from .readers import (
    ExpectedReader,
    LabelReader,
    LinesReader,
    NumbersReader,
    PrinciplesReader,
    Reader,
    TagReader,
    WinnerReader,
)


REFERENCE_COLUMN = "reference_image"  # holds the picture that candidates are compared with
Role = Literal["source", "candidate", "first", "second", "reference"]
_READERS: dict[str, type[Reader]] = {
    "labels": LabelReader,
    "expected": ExpectedReader,
    "numbers": NumbersReader,
    "tag": TagReader,
    "lines": LinesReader,
    "winner": WinnerReader,
    "principles": PrinciplesReader,
}
# Pictures that each kind of preset shows, beside the source of an edit.
_SHOWN: dict[str, set[str]] = {
    "pointwise": {"candidate"},
    "pairwise": {"first", "second"},
    "reference": {"candidate", "reference"},
    "grid": {"first", "second"},
}
_ALONE = ("only", "winner")
_TWO = ("sqrt_product", "editscore")


def _kind_of_reader(value: Any) -> str | None:
    given = value if isinstance(value, dict) else type(value).model_fields if isinstance(value, Reader) else ()
    return next((name for name in _READERS if name in given), None)


AnyReader = Annotated[
    Annotated[LabelReader, Tag("labels")]
    | Annotated[ExpectedReader, Tag("expected")]
    | Annotated[NumbersReader, Tag("numbers")]
    | Annotated[TagReader, Tag("tag")]
    | Annotated[LinesReader, Tag("lines")]
    | Annotated[WinnerReader, Tag("winner")]
    | Annotated[PrinciplesReader, Tag("principles")],
    Discriminator(
        _kind_of_reader,
        custom_error_type="reader",
        custom_error_message=f"a reader has one of {', '.join(_READERS)}",
    ),
]


class ImageRule(BaseModel):
    """
    What pictures are made before they are shown.

    Args:
        max_side (`int`, *optional*, defaults to `1024`): longest side, in pixels; larger ones are scaled down.
        min_pixels (`int`, *optional*): smaller pictures are enlarged to as many.
        max_pixels (`int`, *optional*): larger ones are scaled down to as many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_side: int = Field(default=1024, ge=28)
    min_pixels: int | None = None
    max_pixels: int | None = None


class Ask(BaseModel):
    """
    One question of a preset.

    Args:
        name (`str`): its name among the preset's questions.
        images (`tuple[str, ...]`): pictures in the order shown: `source`, `candidate`, `first`, `second`, `reference`.
        template (`str`):
            Text of the question, a jinja2 template, which runs in a sandbox. `image("source")` stands where a picture
            does; variables are `prompt`, `variables`, and columns of the dataset, empty where a row has none.
        read ([`~arr_trl.judges.readers.Reader`]): how the reply is read.
        max_tokens (`int`, *optional*, defaults to `1024`): longest reply.
        weight (`float`, *optional*, defaults to `1.0`): how much it counts in a mean.
        system (`str`, *optional*): system prompt.
        variables (`dict`, *optional*): further variables of the template.
        each (`str`, *optional*): a column that holds a list; the question is put for each `item` of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[\w-]+$")
    images: tuple[Role, ...] = ()
    template: str = Field(min_length=1)
    read: AnyReader
    max_tokens: int = Field(default=1024, ge=1)
    weight: float = Field(default=1.0, gt=0)
    system: str = ""
    variables: dict[str, str | int | float] = {}
    each: str | None = None

    @property
    def digest(self) -> str:
        """Of the template."""
        return source_digest(self.template)

    @property
    def identity(self) -> list[Any]:
        """What of it can change an answer."""
        return [self.name, self.digest, self.system, self.variables, self.max_tokens]

    @property
    def columns(self) -> frozenset[str]:
        """What the template takes beside the prompt."""
        return variables_of(self.template) - {"prompt"} - self.variables.keys()

    def content(self, images: Mapping[str, Any], **variables: Any) -> list[dict[str, Any]]:
        """The parts of the message, from pictures by their role and the variables there are."""
        given = dict.fromkeys(self.columns, "") | self.variables
        return render_source(self.template, images, **(given | variables))

    @model_validator(mode="after")
    def _template_shows_its_images(self) -> "Ask":
        shown = {role: role for role in self.images}
        try:
            parts = self.content(shown, item=("Is it red?", "Yes"), prompt="a prompt")
        except TemplateError as error:
            raise ValueError(f"the template of {self.name} cannot be used: {error}") from None
        found = tuple(part["image"] for part in parts if part["type"] == "image")
        if found != self.images:
            raise ValueError(
                f"the template of {self.name} shows {', '.join(found) or 'no pictures'}, and `images` says "
                f"{', '.join(self.images) or 'none'}"
            )
        return self


class Preset(BaseModel):
    """
    A published judge as data. It comes with the package, from a file, or from a repository on the Hub, and holds no code;
    see [Judge presets](judge_presets.md).

    Args:
        name (`str`): its name.
        version (`str`): of the question; with another one everything is asked anew.
        task (`str`): `"text-to-image"`, `"image-editing"`, which needs a source, or `"any"`.
        kind (`str`):
            `"pointwise"`: each candidate alone. `"pairwise"`: two candidates, in both orders. `"reference"`: each candidate
            beside the picture of the column `reference_image`. `"grid"`: a candidate that consists of pictures, by twos;
            the column `grid` says in how many rows and columns.
        asks (`tuple[Ask, ...]`): the questions about each candidate or pair.
        combine (`str`): what the answers add up to: the name of a function of [`arr_trl.judges.combine`].
        scale (`tuple[float, float]`, *optional*): worst and best of that, mapped to 0 and 1; unset, it stays as it is.
        tie_margin (`float`, *optional*, defaults to `0.0`): difference on that scale up to which two candidates are level.
        swap (`bool`, *optional*, defaults to `False`):
            With `kind="reference"`, ask with candidate and reference exchanged, too, and take what that says against the
            reference.
        before ([`Ask`], *optional*): a question without candidates, asked once for each prompt and source; its list is the
            variable of its name in the other templates.
        temperature (`float`, *optional*, defaults to `0.0`): sampling temperature.
        sampling (`dict[str, float]`, *optional*): further fields of the request where the temperature is above 0.
        passes (`int`, *optional*, defaults to `1`): how often everything is asked, each time with another seed.
        resample (`bool`, *optional*, defaults to `False`):
            Where a reply cannot be read, sample once more with another seed; needs a temperature.
        image ([`ImageRule`], *optional*): what pictures are made before they are shown.
        weights (`str`, *optional*):
            Repository of the model, which is asked for by this name unless another is given; `"."` for what lies beside the
            preset, as with a judge that `arr-trl judge train` wrote.
        serve (`str`): how to serve it.
        licence (`str`, *optional*): of the weights.
        source (`str`): where the question, its answer and its score are published.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[\w.-]+$")
    version: str = Field(min_length=1)
    task: Literal["text-to-image", "image-editing", "any"] = "any"
    kind: Literal["pointwise", "pairwise", "reference", "grid"] = "pointwise"
    asks: tuple[Ask, ...] = Field(min_length=1)
    combine: str = "only"
    scale: tuple[float, float] | None = None
    tie_margin: float = Field(default=0.0, ge=0)
    swap: bool = False
    before: Ask | None = None
    temperature: float = Field(default=0.0, ge=0)
    sampling: dict[str, float] = {}
    passes: int = Field(default=1, ge=1)
    resample: bool = False
    image: ImageRule = ImageRule()
    weights: str | None = None
    serve: str = ""
    licence: str | None = None
    source: str = ""

    @field_validator("combine")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in COMBINE:
            raise ValueError(f"{name!r} is not one of {', '.join(COMBINE)}")
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> "Preset":
        shown, judged = _SHOWN[self.kind], 2 if self.kind == "pairwise" else 1
        roles = {role for ask in self.asks for role in ask.images}
        for ask in self.asks:
            if not set(ask.images) - {"source"} <= shown:
                raise ValueError(
                    f"{ask.name} shows {', '.join(ask.images)}; kind={self.kind!r} has {', '.join(shown)}"
                )
            if ask.read.pictures != judged:
                raise ValueError(f"{ask.name} reads numbers of {ask.read.pictures} picture(s), and shows {judged}")
        if len({ask.name for ask in self.asks}) < len(self.asks):
            raise ValueError("two questions have the same name")
        if not shown <= roles or (self.task == "image-editing" and "source" not in roles):
            raise ValueError(f"no question shows {', '.join(sorted(shown - roles)) or 'source'}")
        wanted = 1 if self.combine in _ALONE else 2 if self.combine in _TWO else None
        if wanted is not None and (len(self.asks) != wanted or any(ask.each for ask in self.asks)):
            raise ValueError(f"combine={self.combine!r} is of {wanted} question(s)")
        for name, reader in (("winner", WinnerReader), ("editscore", NumbersReader)):
            if self.combine == name and not all(isinstance(ask.read, reader) for ask in self.asks):
                raise ValueError(f"combine={name!r} needs readers with {next(iter(reader.model_fields))!r}")
        if self.combine == "only" and self.asks[0].read.count != 1:
            raise ValueError(f"combine='only' is of one number, and {self.asks[0].name} reads several")
        if self.before is not None and not isinstance(self.before.read, PrinciplesReader):
            raise ValueError("`before` needs a reader with `principles`")
        if self.before is not None and not set(self.before.images) <= {"source"}:
            raise ValueError("`before` is asked before there are candidates, and shows the source alone")
        if any(isinstance(ask.read, PrinciplesReader) for ask in self.asks):
            raise ValueError("a reader with `principles` is for `before`")
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError("`scale` has to be the worst and the best")
        if self.temperature == 0 and (self.passes > 1 or self.resample):
            raise ValueError("`passes` and `resample` need a `temperature`, or every reply is the same")
        return self

    @property
    def columns(self) -> list[str]:
        """Columns that every row has to have."""
        lists = [ask.each for ask in self.asks if ask.each is not None]
        return [*lists, *{"grid": ["grid"], "reference": [REFERENCE_COLUMN]}.get(self.kind, [])]

    @property
    def reads(self) -> set[str]:
        """Columns that it looks at where a row has them."""
        return set(self.columns).union(*(ask.columns for ask in self.asks))

    @property
    def answers(self) -> list[str]:
        """The kinds of answers that it reads."""
        return list(dict.fromkeys(_kind_of_reader(ask.read) for ask in self.asks))
