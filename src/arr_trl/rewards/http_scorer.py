"""A scorer behind a server that has an environment of its own: pictures out, numbers back, as JSON."""

import json
import logging
import math
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import requests
from PIL import Image
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from ..chat.addresses import address_of, check_address, check_key, secrets_in_url
from ..chat.wire import beginning, data_url, well_formed
from .failures import FailureWindow, RewardFailureError
from .protocol import ARGUMENTS
from .scorer import Scorer


logger = logging.getLogger(__name__)

_LARGEST = 10_000_000  # bytes of a reply, which is a list of numbers


class HTTPScorer(Scorer):
    """
    Scores from a server, for packages that do not go together with these, and for scorers with a GPU of their own.
    examples/servers/scorer_server.py is one, for any function from pictures to numbers.

    The server gets a POST with `{"images": [...], "prompts": [...], "sources": [[...]], "metadata": [{...}]}`, one entry
    per picture: PNG as base64; what was edited, a list for each, which is empty where there is nothing; and the dataset's
    other columns, as far as JSON has them; and `"masks": [...]` where the dataset has masks, `null` for a row without. It
    answers `{"scores": [...]}` with a number per picture, or `null` where it has
    none; no pictures, which [`~HTTPScorer.check`] sends, with an empty list. A reply that is anything else gives no score to any picture of the request, since nothing says which number
    belongs to which picture.

    Args:
        url (`str`):
            Address that is posted to, such as `"http://localhost:8100/score"`.
        name (`str`, *optional*, defaults to `"http_scorer"`):
            What metrics are filed under.
        api_key (`str`, *optional*):
            Secret sent as bearer token.
        batch_size (`int`, *optional*, defaults to `16`):
            Pictures of one request.
        max_concurrency (`int`, *optional*, defaults to `4`):
            Requests in flight at once.
        timeout_s (`float`, *optional*, defaults to `120.0`):
            Seconds that one attempt may take.
        max_retries (`int`, *optional*, defaults to `2`):
            Further attempts after a timeout, a lost connection, a 429 or a 5xx.
        backoff_s (`float`, *optional*, defaults to `1.0`):
            Seconds before the first retry, doubled for each further one, with jitter.
        max_image_size (`int`, *optional*):
            Longest side, in pixels, of the pictures that are sent. Unset, they are sent as they are.
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            Share of the last `failure_window` pictures without a score above which a [`~arr_trl.rewards.RewardFailureError`]
            stops the run; `None` never does.
        failure_window (`int`, *optional*, defaults to `128`):
            Number of pictures that the share is taken over.

    Example:
    ```python
    >>> reward = HTTPScorer("http://localhost:8100/score", name="imagereward")
    >>> reward(["a red cube"], [image])
    [1.07]
    ```
    """

    def __init__(
        self,
        url: str,
        name: str = "http_scorer",
        api_key: str | None = None,
        *,
        batch_size: int = 16,
        max_concurrency: int = 4,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        backoff_s: float = 1.0,
        max_image_size: int | None = None,
        max_failure_rate: float | None = 0.5,
        failure_window: int = 128,
    ):
        check_address(url, "url")
        check_key(api_key)
        self.url = url
        self.batch_size = batch_size
        self.max_concurrency = max_concurrency
        self.timeout_s = timeout_s
        self.max_retries = max_retries
        self.backoff_s = backoff_s
        self.max_image_size = max_image_size
        self.__name__ = name
        self._api_key = api_key
        self._failures = FailureWindow(max_failure_rate, failure_window)
        self._told: set[str] = set()

    def check(self) -> None:
        """
        Have no picture scored, which the server answers with an empty list: whether it is there, and speaks of scores.

        Raises:
            `ConnectionError`: when the server does not answer.
            `PermissionError`: when it refuses the credentials.
            `ValueError`: when it answers with something else than a score.
        """
        try:
            self._read(self._post(json.dumps(_body([], [], {}, None))), 0)
        except _Failed as error:
            raise error.kind(f"{error} Check `url`, and that the scorer's server is running.") from None

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[Image.Image],
        log_extra=None,
        **columns: Any,
    ) -> list[float | None]:
        parts = [slice(i, i + self.batch_size) for i in range(0, len(completions), self.batch_size)]
        given = {
            name: values
            for name, values in columns.items()
            if name not in ARGUMENTS and isinstance(values, Sequence) and len(values) == len(completions)
        }
        pool = ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="arr_trl-scorer")
        try:
            of_part = partial(self._score_part, prompts, completions, given)
            found = [answer for answers in pool.map(of_part, parts) for answer in answers]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupted caller is not kept until it answers
        problems = [found_one if isinstance(found_one, str) else None for found_one in found]
        for problem in dict.fromkeys(filter(None, problems)):
            if problem not in self._told:
                self._told.add(problem)
                logger.warning("%s of %d pictures: %s", problems.count(problem), len(problems), problem)
        if log_extra is not None:
            log_extra(f"{self.__name__}_problem", [problem or "" for problem in problems])
        too_many = self._failures.add(problems, f"pictures got no score of {self.__name__}")
        if too_many is not None:
            raise RewardFailureError(f"{too_many} Repair the server and resume.")
        return [None if isinstance(found_one, str) else found_one for found_one in found]

    def _score_part(
        self, prompts: Sequence[str], images: Sequence[Image.Image], columns: dict[str, Sequence], part: slice
    ) -> list[float | str]:
        """A score for each picture, or a sentence that says why there is none."""
        of_part = {name: values[part] for name, values in columns.items()}
        body = json.dumps(_body(prompts[part], images[part], of_part, self.max_image_size))
        count = len(images[part])
        retrying = Retrying(
            stop=stop_after_attempt(self.max_retries + 1),
            wait=wait_exponential_jitter(initial=self.backoff_s, max=60, jitter=self.backoff_s),
            retry=retry_if_exception_type(_Passing),
            reraise=True,
        )
        try:
            return self._read(retrying(self._post, body), count)
        except _Failed as error:
            return [str(error)] * count

    def _post(self, body: str) -> bytes:
        headers = {"content-type": "application/json"}
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key}"
        start = time.monotonic()
        try:
            # the client's own timeout is per read: a server that trickles would never reach it, nor fill larger chunks
            with requests.post(
                self.url, body.encode(), headers=headers, timeout=self.timeout_s, stream=True
            ) as response:
                content = bytearray()
                for byte in response.iter_content(1):
                    content += byte
                    if time.monotonic() - start > self.timeout_s:
                        raise requests.Timeout
                    if len(content) > _LARGEST:
                        raise self._failed(_Failed, "sent more than a list of scores")
        except requests.Timeout:
            raise self._failed(_Passing, f"did not answer within {self.timeout_s:g} s") from None
        except requests.RequestException as error:
            raise self._failed(_Passing, f"could not be reached ({type(error).__name__})") from None
        if response.status_code == 200:
            return bytes(content)
        words = beginning(content.decode("utf-8", "replace"))
        said = f"answered with status {response.status_code}" + (f": {words}" if words else "")
        passing = response.status_code == 429 or response.status_code >= 500
        refused = response.status_code in (401, 403)
        raise self._failed(_Passing if passing else _Failed, said, PermissionError if refused else ValueError)

    def _read(self, content: bytes, count: int) -> list[float | str]:
        try:
            scores = json.loads(content)["scores"]
        except (ValueError, LookupError, TypeError, RecursionError):
            said = f"sent something else than scores: {beginning(content.decode('utf-8', 'replace'))}"
            raise self._failed(_Failed, said) from None
        if not isinstance(scores, list) or len(scores) != count:
            sent = f"{len(scores)} scores" if isinstance(scores, list) else "something else than a list of scores"
            raise self._failed(_Failed, f"sent {sent} for {count} pictures")
        return [self._score(score) for score in scores]

    def _score(self, score: Any) -> float | str:
        if score is None:
            return str(self._failed(_Failed, "has no score for this picture"))
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            return str(self._failed(_Failed, f"sent {beginning(repr(score))} as a score"))
        return float(score)

    def _failed(self, kind: type["_Failed"], said: str, raised: type[Exception] = ValueError) -> "_Failed":
        said = re.sub(r"//[^/\s@]*@", "//***@", said)
        for secret in filter(None, (self._api_key, *secrets_in_url(self.url))):  # servers repeat what they were sent
            said = said.replace(secret, "***")
        error = kind(f"The scorer at {address_of(self.url)} {said}.".replace("..", "."))
        error.kind = ConnectionError if kind is _Passing else raised
        return error


class _Failed(Exception):
    """A request without scores; `kind` is what `check` raises."""

    kind: type[Exception] = ValueError


class _Passing(_Failed):
    """Worth another try."""


def _body(
    prompts: Sequence[str], images: Sequence[Image.Image], columns: dict[str, Sequence], max_size: int | None
) -> dict[str, Any]:
    sources = columns.get("source_image", [None] * len(images))
    masks = [mask if isinstance(mask, Image.Image) else None for mask in columns.get("mask_image", ())]
    pictures = {"source_image"} | ({"mask_image"} if any(masks) else set())
    plain = {name: values for name, values in columns.items() if name not in pictures}
    sent = {"masks": [mask and _png(mask, max_size) for mask in masks]} if any(masks) else {}
    return sent | {
        "images": [_png(image, max_size) for image in images],
        "prompts": [well_formed(prompt) for prompt in prompts],
        "sources": [
            [_png(s, max_size) for s in (source if isinstance(source, list) else [source] if source else [])]
            for source in sources
        ],
        "metadata": [
            {name: values[i] for name, values in plain.items() if _is_json(values[i])} for i in range(len(images))
        ],
    }


def _png(image: Image.Image, max_size: int | None) -> str:
    return data_url(image, max_size or max(image.size)).partition(",")[2]


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
