"""Sentence embedders: a callable from texts to one row each. One needs nothing but scikit-learn, one asks a server."""

import json
import urllib.request
from dataclasses import replace

import numpy as np

from ..chat.addresses import address_of, check_address, check_key
from ..judges.questions import content_key
from ..judges.store import StoredAnswer, VerdictStore


_BATCH = 128  # texts of one request


def hashed_tfidf(texts: list[str]) -> np.ndarray:
    """
    Embeddings without a model: TF-IDF of hashed character n-grams, which works in any language. It tells wordings
    apart, not meanings.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    counts = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=4096, norm=None).transform(texts)
    return TfidfTransformer().fit_transform(counts).toarray()


class ServerEmbedder:
    """
    Embeddings from the `/embeddings` endpoint of an OpenAI-compatible server. Every one is kept in the store.

    Args:
        model (`str`): name of the model.
        base_url (`str`): address of the server, such as `http://localhost:8000/v1`.
        store ([`VerdictStore`]): where embeddings are kept.
        api_key (`str`, *optional*): secret for the server.
        timeout_s (`float`, *optional*, defaults to `120.0`): seconds that one request may take.
    """

    def __init__(
        self, model: str, base_url: str, store: VerdictStore, api_key: str | None = None, timeout_s: float = 120.0
    ):
        check_address(base_url, "embedding_base_url")
        check_key(api_key)
        self.model = model
        self.base_url = base_url.rstrip("/")
        self.server = address_of(base_url)
        self.store = store
        self.timeout_s = timeout_s
        self._api_key = api_key

    def __call__(self, texts: list[str]) -> np.ndarray:
        """
        One embedding per text, `[N, D]`.

        Raises:
            `ConnectionError`: when the server does not answer with embeddings.
        """
        keys = [content_key("embedding", self.model, self.server, text) for text in texts]
        kept = {key: answer.reply for key, answer in self.store.get(keys).items()}
        missing = [(key, text) for key, text in dict(zip(keys, texts, strict=True)).items() if key not in kept]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            vectors = self._post([text for _, text in batch])
            answers = [
                replace(_BLANK, key=key, model=self.model, server=self.server, prompt=text, reply=json.dumps(vector))
                for (key, text), vector in zip(batch, vectors, strict=True)
            ]
            self.store.put(answers)
            kept |= {answer.key: answer.reply for answer in answers}
        return np.array([json.loads(kept[key]) for key in keys], dtype=float)

    def _post(self, texts: list[str]) -> list[list[float]]:
        request = urllib.request.Request(
            f"{self.base_url}/embeddings",
            data=json.dumps({"model": self.model, "input": texts}).encode(),
            headers={
                "content-type": "application/json",
                **({"authorization": f"Bearer {self._api_key}"} if self._api_key else {}),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                data = json.loads(response.read())["data"]
            vectors = [entry["embedding"] for entry in sorted(data, key=lambda entry: entry["index"])]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ConnectionError(
                f"There are no embeddings of {self.model} at {self.base_url} ({error}); check `embedding_base_url` and "
                "`embedding_model`, or leave them out to select by wording."
            ) from error
        if len(vectors) != len(texts):
            raise ConnectionError(f"{self.base_url} sent {len(vectors)} embeddings for {len(texts)} texts.")
        return vectors


_BLANK = StoredAnswer(
    key="", status="answered", model="", template="embedding", rubric="", prompt="", images=(), positions=()
)
