"""The client of huggingface_hub where it has to send what it is given and to hand over all that comes back."""

from typing import Any

from huggingface_hub import AsyncInferenceClient


BODY = "body"


class WholeBodyClient(AsyncInferenceClient):
    """
    A client whose completions have the bytes of the answer as `BODY` and nothing else: what the client makes of them
    loses an error that comes with status 200, and raises where a part is not what it expects
    (`BaseInferenceType.parse_obj`, 2.4.0).
    """

    async def _inner_post(self, request_parameters, *, stream: bool = False):
        return {BODY: await super()._inner_post(request_parameters, stream=stream)}


class ServerClient(WholeBodyClient):
    """A client for a server of the user's own: `HF_HUB_OFFLINE`, common where there is no internet, is not about it."""

    async def _get_async_client(self):
        client = await super()._get_async_client()
        client.event_hooks = {"response": client.event_hooks["response"]}  # the request hook refuses when offline
        return client


class Verbatim(dict[str, Any]):
    """
    A response format that huggingface_hub sends as it is. Given a `base_url`, the client rewrites OpenAI's
    `json_schema` into TGI's `json_object` with a `value`, which vLLM and SGLang accept and ignore
    (`HFInferenceConversational`, 2.4.0); it asks `get("type")` to find out.
    """

    def get(self, key, default=None):
        return default
