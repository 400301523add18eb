"""A chat model behind any server that speaks the OpenAI protocol: vLLM, SGLang, `transformers serve`, or a provider."""

import asyncio
import logging
import math
import re
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import AsyncInferenceClient

# `HTTPError` is the base class of everything the client raises, whichever HTTP library huggingface_hub uses.
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from .addresses import address_of, check_address, check_key, secrets_in_url, way_to
from .at_exit import call_at_exit
from .base import ChatFailure, ChatReply, ChatRequest
from .client import BODY, ServerClient, Verbatim, WholeBodyClient
from .completions import NoCompletionError, kind_of_status, read_completion, retry_after_s, words_of_response
from .sleeping import Sleeper
from .wire import data_url, well_formed


_PASSING = ("timeout", "connection", "rate_limit", "server")  # worth another try
_ABOUT_SCHEMA = re.compile(r"grammar|schema|response_format|guided", re.IGNORECASE)  # also with a status of 500
_THREAD = "arr_trl-chat"
# Loggers that write the whole URL of every request, at INFO and DEBUG.
_LOGGERS_OF_URLS = (HTTPError.__module__.partition(".")[0], "huggingface_hub.utils._http")
_LONGEST = 400  # characters of what the server did, its own words among them, that are worth showing


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class HTTPChatModel:
    """
    A vision chat model that answers over HTTP, through [`~huggingface_hub.AsyncInferenceClient`].

    All calls of one object share one pool of connections and one limit of concurrent requests, whichever thread they
    come from. Nothing is started and nothing is sent before the first call.

    Args:
        model (`str`):
            Name of the model, as the server or provider calls it.
        base_url (`str`, *optional*):
            Address of an OpenAI-compatible server, such as `"http://localhost:8000/v1"`. Without it the model is asked
            through [Inference Providers](https://huggingface.co/docs/inference-providers).
        api_key (`str`, *optional*):
            Secret sent as bearer token. Without it a server at `base_url` gets no credentials, not even the token of
            `hf auth login`, unless it belongs to Hugging Face.
        provider (`str`, *optional*):
            Inference provider, when there is no `base_url`; `None` lets the Hub choose.
        max_concurrency (`int`, *optional*, defaults to `32`):
            Requests in flight at once, from 1 to 100.
        timeout_s (`float`, *optional*, defaults to `120.0`):
            Seconds that one attempt may take. A server that asks to wait longer than this is not waited for.
        max_retries (`int`, *optional*, defaults to `4`):
            Further attempts after a timeout, a lost connection, a 429 or a 5xx.
        backoff_s (`float`, *optional*, defaults to `1.0`):
            Seconds before the first retry, doubled for each further one, with jitter. `Retry-After` wins over it.
        max_image_size (`int`, *optional*, defaults to `1024`):
            Longest side, in pixels, of the PNG that is sent; larger images are scaled down.
        extra_body (`dict`, *optional*):
            Further fields of the request, which win over ours; `None` removes a field. A model that takes no
            `max_tokens`, for example, wants `{"max_tokens": None, "max_completion_tokens": 2048}`.
        sleep (`bool`, *optional*, defaults to `False`):
            Whether the server gives its GPU memory back while nobody asks: a vLLM server started with
            `--enable-sleep-mode` and `VLLM_SERVER_DEV_MODE=1`, on the GPU that trains. See [`~HTTPChatModel.awake`].
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        provider: str | None = None,
        max_concurrency: int = 32,
        timeout_s: float = 120.0,
        max_retries: int = 4,
        backoff_s: float = 1.0,
        max_image_size: int = 1024,
        extra_body: dict[str, Any] | None = None,
        sleep: bool = False,
    ):
        if base_url is not None:
            check_address(base_url, "base_url")
        elif sleep:
            raise ValueError("sleep=True is for a vLLM server of your own; give its `base_url`.")
        check_key(api_key)
        if base_url is not None and provider is not None:
            raise ValueError("Give `base_url` (a server) or `provider` (an inference provider), not both.")
        if not 1 <= max_concurrency <= 100:
            raise ValueError(
                f"max_concurrency={max_concurrency} is outside 1 to 100, what one HTTP client holds open."
            )
        self.model = model
        self.base_url = base_url
        self.provider = provider
        self.max_concurrency = max_concurrency
        self.timeout_s = timeout_s
        self.max_retries = max_retries
        self.backoff_s = backoff_s
        self.max_image_size = max_image_size
        self.extra_body = dict(extra_body or {})
        self.sleep = sleep
        self._sleeper = Sleeper(base_url, api_key, timeout_s) if sleep else None
        self._api_key = api_key
        self._secrets = [secret for secret in (api_key, *secrets_in_url(base_url or "")) if secret]
        self._where = address_of(base_url) if base_url else f"provider {provider or 'auto'}"
        # servers are free to call different models the same
        self.settings = {"max_image_size": max_image_size, **self.extra_body, "server": self._where}
        self._sends_schema = True  # until the server refuses one
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: AsyncInferenceClient | None = None
        self._slots: asyncio.Semaphore | None = None
        self._ending = False

    def __repr__(self) -> str:
        return f"HTTPChatModel(model={self.model!r}, at={self._where!r})"

    def complete(
        self, requests: list[ChatRequest], on_reply: Callable[[int, ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """Answer every request, in order, `max_concurrency` at a time. Safe from any thread, also one that runs a loop."""
        return self._run(self._answer_all(requests, self.max_retries, on_reply))

    def check(self) -> None:
        """
        Ask the model for one token of text.

        Raises:
            `ConnectionError`: when the server does not answer.
            `PermissionError`: when it refuses the credentials.
            `ValueError`: when it does not serve the model or refuses the question.
        """
        question = ChatRequest([{"role": "user", "content": [{"type": "text", "text": "Say OK."}]}], max_tokens=1)
        (reply,) = self._run(self._answer_all([question], max_retries=0))
        failure = reply.failure
        if failure is None or failure.kind in ("truncated", "empty", "refusal"):  # it answered
            return
        if failure.kind == "authentication":
            raise PermissionError(f"{failure.message} Check `api_key`, and that it may use {self.model}.")
        if failure.kind in _PASSING:
            raise ConnectionError(
                f"{failure.message} Check that the server is running and `base_url` is right; "
                f"`vllm serve {self.model}` starts one at http://localhost:8000/v1."
            )
        raise ValueError(f"{failure.message} Check that the server serves a model named {self.model!r}.")

    def awake(self) -> AbstractContextManager:
        """
        A server that sleeps, woken, and put to sleep again when the last of those who want it awake has done; any other is
        awake.

        Raises:
            `ConnectionError`: when it cannot be woken or put to sleep.
        """
        return nullcontext() if self._sleeper is None else self._sleeper.awake()

    def close(self) -> None:
        """Close the connections. The object opens new ones when it is used again."""
        with self._lock:
            if self._loop is not None:
                self._stop()
                self._thread.join()
                self._loop = None

    def _run(self, coroutine) -> Any:
        with self._lock:
            if self._ending:
                coroutine.close()
                raise CancelledError
            if self._loop is None:
                self._start()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:  # an interrupted caller must not leave paid requests running
            future.cancel()
            raise

    def _end(self) -> None:
        """Leave the questions under way, and take no more."""
        with self._lock:
            self._ending = True
        # a loop that stops before they have ended says so of each
        wait([asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop)], timeout=5)

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._new_client()
        self._slots = asyncio.Semaphore(self.max_concurrency)
        self._thread = threading.Thread(target=_serve_loop, args=(self._loop, self._client), name=_THREAD, daemon=True)
        for logger in _LOGGERS_OF_URLS:
            logging.getLogger(logger).addFilter(_not_of_ours)
        self._thread.start()
        self._stop = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
        call_at_exit(self._end)

    def _new_client(self) -> AsyncInferenceClient:
        if self.base_url is None:
            return WholeBodyClient(provider=self.provider, token=self._api_key, timeout=self.timeout_s)
        # Without a token the client would send the login's to whatever server this is; a header of None stops that.
        host = urlsplit(self.base_url).hostname or ""
        ours = host.endswith((".huggingface.co", ".huggingface.cloud")) or host == "huggingface.co"
        return ServerClient(
            base_url=self.base_url,
            api_key=self._api_key,
            headers=None if self._api_key or ours else {"authorization": None},
            timeout=self.timeout_s,
        )

    async def _answer_all(
        self,
        requests: list[ChatRequest],
        max_retries: int,
        on_reply: Callable[[int, ChatReply], None] | None = None,
    ) -> list[ChatReply]:
        images: dict[int, asyncio.Task[str]] = {}  # both orders of a pair show the same images: encode them once

        async def answer(i: int) -> ChatReply:
            reply = await self._answer(requests[i], images, max_retries)
            if on_reply is not None:
                on_reply(i, reply)
            return reply

        return await asyncio.gather(*map(answer, range(len(requests))))

    async def _answer(
        self, request: ChatRequest, images: dict[int, "asyncio.Task[str]"], max_retries: int
    ) -> ChatReply:
        async with self._slots:
            start = time.perf_counter()
            retrying = AsyncRetrying(
                stop=stop_after_attempt(max_retries + 1),
                wait=self._wait,
                retry=retry_if_exception(lambda error: isinstance(error, _Failed) and error.may_pass),
                reraise=True,
            )
            try:
                messages = [
                    {"role": m["role"], "content": [await self._part(part, images) for part in m["content"]]}
                    for m in request.messages
                ]
                start = time.perf_counter()
                reply = await retrying(self._ask, request, messages)
            except _Failed as error:
                reply = ChatReply(failure=error.failure)
            except Exception as error:
                # a picture that cannot be read, a provider that does not exist, a proxy or a certificate that cannot be
                # used, and whatever else: a failure is a reply
                failed = self._failed("bad_request", f"cannot be asked: {_reason(error)}")
                reply = ChatReply(failure=failed.failure)
            return replace(reply, latency_s=time.perf_counter() - start)

    async def _part(self, part: dict[str, Any], images: dict[int, "asyncio.Task[str]"]) -> dict[str, Any]:
        if part["type"] != "image":
            return {**part, "text": well_formed(part["text"])}
        image = part["image"]
        if id(image) not in images:
            images[id(image)] = asyncio.ensure_future(asyncio.to_thread(data_url, image, self.max_image_size))
        return {"type": "image_url", "image_url": {"url": await images[id(image)]}}

    async def _ask(self, request: ChatRequest, messages: list[dict[str, Any]]) -> ChatReply:
        schema = request.json_schema if self._sends_schema else None
        try:
            return await self._post(request, messages, schema)
        except _Failed as error:
            about_schema = error.failure.kind == "bad_request" or _ABOUT_SCHEMA.search(error.failure.message)
            if schema is None or not about_schema:
                raise
            # Not every server takes a schema. The prompt describes the format too, so ask without; if that is
            # answered, the schema was what it refused, and it is not sent again.
            reply = await self._post(request, messages, None)
            self._sends_schema = False
            return reply

    async def _post(
        self, request: ChatRequest, messages: list[dict[str, Any]], schema: dict[str, Any] | None
    ) -> ChatReply:
        wants_choices = request.choices is not None
        call = self._client.chat_completion(
            messages=messages,
            model=self.model,
            max_tokens=1 if wants_choices else request.max_tokens,
            temperature=request.temperature,
            logprobs=True if wants_choices else None,
            top_logprobs=20 if wants_choices else None,
            response_format=None if schema is None else self._response_format(schema),
            extra_body={**request.sampling, **self.extra_body},
        )
        try:
            # the client's own timeout is per read: a server that trickles would never reach it
            output = await asyncio.wait_for(call, self.timeout_s)
            return read_completion(output[BODY], request)
        except NoCompletionError as error:
            raise self._failed(error.kind, error.said) from None
        except (TimeoutError, asyncio.TimeoutError):  # two classes until Python 3.11
            raise self._failed("timeout", f"did not answer within {self.timeout_s:g} s") from None
        except HfHubHTTPError as error:
            raise self._failed_with_status(error.response) from None
        except OfflineModeIsEnabled:
            raise self._failed("connection", "could not be reached: the environment has HF_HUB_OFFLINE set") from None
        except HTTPError as error:
            way = way_to(self.base_url) if self.base_url else ""
            raise self._failed("connection", f"could not be reached{way}: {_reason(error)}") from None
        except Exception as error:
            # `huggingface_hub` 2.4.0 fails on an error whose body is a list; what it was is in the chain
            for link in _chain(error):
                if isinstance(link, HTTPError) and (response := getattr(link, "response", None)) is not None:
                    raise self._failed_with_status(response) from None
            raise

    def _response_format(self, schema: dict[str, Any]) -> dict[str, Any]:
        body = {
            "type": "json_schema",
            "json_schema": {"name": schema.get("title", "reply"), "strict": True, "schema": schema},
        }
        return body if self.base_url is None else Verbatim(body)

    def _failed_with_status(self, response: Any) -> "_Failed":
        status = response.status_code
        kind = kind_of_status(status)
        said = {
            "authentication": f"refused the credentials ({status})",
            "not_found": f"does not know the model {self.model!r} or the address ({status})",
            "rate_limit": "limits the rate of requests (429)",
        }.get(kind, f"answered with status {status}")
        words = words_of_response(response)
        error = self._failed(kind, said + (f": {words}" if words else ""))
        error.retry_after_s = retry_after_s(response.headers.get("retry-after"))
        return error

    def _failed(self, kind: str, said: str) -> "_Failed":
        said = re.sub(r"//[^/\s@]*@", "//***@", " ".join(said.split()))  # of a proxy
        for secret in self._secrets:  # servers repeat what they were sent
            said = said.replace(secret, "***")
        message = f"The chat model at {self._where} {said[:_LONGEST]}."
        error = _Failed(ChatFailure(kind, message.replace("..", ".")))
        error.patience_s = self.timeout_s
        return error

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception()
        backoff = wait_exponential_jitter(initial=self.backoff_s, max=60, jitter=self.backoff_s)(state)
        return backoff if error.retry_after_s is None else max(error.retry_after_s, backoff)


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and what it came from, the first cause last."""
    chain = [error]
    while True:
        cause = chain[-1].__cause__ or chain[-1].__context__  # httpcore raises `from None`
        if cause is None or cause in chain:
            return chain
        chain.append(cause)


def _reason(error: BaseException) -> str:
    """What the system said: libraries wrap it in exceptions that name what failed and not why."""
    system = [str(link) for link in _chain(error) if isinstance(link, OSError) and str(link)]
    words = system[-1] if system else str(error)
    return f"{words} ({type(error).__name__})" if words else type(error).__name__


def _not_of_ours(record: logging.LogRecord) -> bool:
    """Keeps one line per request out of logs, and with it the secrets that a URL may hold."""
    return record.threadName != _THREAD


def _serve_loop(loop: asyncio.AbstractEventLoop, client: AsyncInferenceClient) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(client.close())
    finally:
        loop.close()


class _Failed(Exception):
    """One attempt without an answer."""

    retry_after_s: float | None = None
    patience_s: float = math.inf

    def __init__(self, failure: ChatFailure):
        super().__init__(failure.message)
        self.failure = failure

    @property
    def may_pass(self) -> bool:
        return self.failure.kind in _PASSING and (self.retry_after_s or 0.0) <= self.patience_s
