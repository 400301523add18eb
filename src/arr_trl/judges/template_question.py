"""A question in the words of a template, whose answer is one JSON object."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from PIL import Image
from pydantic import BaseModel, ValidationError

from ..chat import ChatModel, ChatRequest
from ..digests import image_digest
from .masks import named_with_mask, with_mask
from .parsing import ReplyError, json_schema, parse_reply
from .prompts import render_content, template_id
from .questions import Question, content_key
from .store import StoredAnswer


def template_question(
    name: str,
    model: ChatModel,
    reply_model: type[BaseModel],
    *,
    prompt: str,
    images: Sequence[Image.Image | list[Image.Image] | None] = (),
    max_tokens: int,
    temperature: float,
    package: str = "arr_trl.judges",
    positions: tuple[int, ...] = (),
    mask: Image.Image | None = None,
    read: Callable[[Any], Any] = lambda reply: reply,
    **variables: Any,
) -> Question:
    """
    Args:
        name (`str`): template without its ending, such as `"auto_rubric.en"`.
        model ([`ChatModel`]): the chat model that is asked.
        reply_model (`type[BaseModel]`): what the reply has to be.
        prompt (`str`): the caption or instruction; the template has it as `prompt`.
        images (`Sequence`): what `image(i)` in the template stands for, an image or several; `None` where it is not used.
        max_tokens (`int`): longest reply.
        temperature (`float`): sampling temperature.
        package (`str`, *optional*, defaults to `"arr_trl.judges"`): package of the template.
        positions (`tuple[int, ...]`, *optional*): index of the candidate at each position shown, for the record.
        mask (`PIL.Image.Image`, *optional*): the mask of the edit that is asked about, shown behind all other images.
        read (`Callable`, *optional*): makes the answer of the parsed reply; raises [`ReplyError`] when it cannot.
        **variables: the template's other variables, plain values.
    """
    language = name.rpartition(".")[2]
    template = named_with_mask(template_id(name, package), mask, language)
    digests = [
        [image_digest(i) for i in (part if isinstance(part, list) else [part] if part else [])]
        for part in (*images, *([] if mask is None else [mask]))
    ]
    schema = json_schema(reply_model)

    def request() -> ChatRequest:
        content = with_mask(render_content(name, images, package, prompt=prompt, **variables), mask, language)
        return ChatRequest(
            [{"role": "user", "content": content}],
            json_schema=schema,
            max_tokens=max_tokens,
            temperature=temperature,
        )

    settings = (model.model, model.settings, temperature, max_tokens)
    blank = StoredAnswer(
        key=content_key(*settings, template, schema, prompt, digests, variables),
        status="failed",
        model=model.model,
        template=template,
        rubric="",
        prompt=prompt,
        images=tuple(chain.from_iterable(digests)),
        positions=positions,
        asked=0,
        server=model.settings.get("server"),
    )

    def read_answer(answer: StoredAnswer) -> Any:
        try:
            return read(parse_reply(answer.reply, reply_model))
        except ValidationError as error:  # what is made of the reply has rules that no schema can say
            raise ReplyError(f"The reply cannot be used: {error.errors()[0]['msg']}.") from None

    return Question(blank, request, read_answer)
