"""vLLM's sleep mode: a server that gives its GPU memory back while nobody asks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import requests

from .addresses import address_of


class Sleeper:
    """
    Wakes a vLLM server and puts it to sleep ([docs](https://docs.vllm.ai/en/latest/features/sleep_mode.html)): level 1, its
    weights wait in the memory of the CPU and its cache is dropped.

    Args:
        base_url (`str`): its OpenAI address, such as `http://localhost:8000/v1`, beside which it takes these requests.
        api_key (`str`, *optional*): secret for the server.
        timeout_s (`float`): seconds that waking up may take.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float):
        self.address = address_of(base_url)
        self.timeout_s = timeout_s
        parts = urlsplit(base_url)
        self._root = parts._replace(path=parts.path.rstrip("/").removesuffix("/v1")).geturl().rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._lock = threading.Lock()
        self._wanted = 0  # how many want it awake

    @contextmanager
    def awake(self) -> Iterator[None]:
        with self._lock:  # whoever comes second waits until it is awake
            if not self._wanted:
                self._post("wake_up", "be woken")
            self._wanted += 1
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= 1
                if not self._wanted:
                    self._post("sleep?level=1", "be put to sleep")

    def _post(self, path: str, what: str) -> None:
        try:
            response = requests.post(f"{self._root}/{path}", json={}, headers=self._headers, timeout=self.timeout_s)
            problem = None if response.ok else f"status {response.status_code}"
        except requests.RequestException as error:
            problem = type(error).__name__
        if problem is not None:
            raise ConnectionError(
                f"The server at {self.address} could not {what} ({problem}); vLLM takes this when it was started with "
                "`--enable-sleep-mode` and VLLM_SERVER_DEV_MODE=1 in the environment. Or leave `sleep` out."
            )
