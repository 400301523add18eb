"""What an error of the Hub's client means, in words. It imports the client alone, for what is done without torch."""

from collections.abc import Iterator
from json import JSONDecodeError

from huggingface_hub import constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # what the HTTP library of huggingface_hub raises, whichever it is
    RevisionNotFoundError,
)


def unreachable(error: BaseException) -> str:
    """That there is no connection, and why."""
    return f"{constants.ENDPOINT} cannot be reached ({error})"


def hub_problem(error: BaseException, repo_id: str) -> str:
    """
    Why a repository could not be written to and what to do, in a sentence or two that go on after a colon.

    Args:
        error (`BaseException`): what `huggingface_hub` raised.
        repo_id (`str`): the repository.
    """
    response = response_of(error)
    if response is None:
        if no_answer(error) or isinstance(error, ConnectionError):
            return f"{unreachable(error)}. Check the network and `HF_ENDPOINT`."
        return f"{error}."
    status = response.status_code
    if status == 401:
        return "the Hub does not know your token. Log in with `hf auth login`, or set `HF_TOKEN` to a valid token."
    if status == 403:
        return (
            f"your token may not write there. Use a token with write permission for {repo_id.split('/')[0]}, or a "
            "repository of your own."
        )
    if isinstance(error, RevisionNotFoundError):
        return "the branch does not exist there. Check `revision`."
    if status == 404:
        return "there is no such repository, or your token cannot see it. Check `repo_id` and the token's permissions."
    if status in (409, 412):
        return "others kept committing to it. Wait until they are done."
    if status == 429:
        wait = asked_to_wait(response)
        return f"the Hub asks for fewer requests. Wait {f'{wait:.0f} seconds' if wait else 'a few minutes'}."
    if status >= 500:
        return f"the Hub failed with status {status}. Wait a few minutes; see https://status.huggingface.co."
    return f"the Hub refused with status {status}: {response.headers.get('x-error-message') or error}."


def response_of(error: BaseException):
    """The Hub's answer, if an error has one."""
    return next((e.response for e in _causes(error) if isinstance(e, HfHubHTTPError)), None)


def no_answer(error: BaseException) -> bool:
    """Whether nothing came, or a web page in place of an answer."""
    return response_of(error) is None and any(isinstance(e, HTTPError | JSONDecodeError) for e in _causes(error))


def asked_to_wait(response) -> float:
    """Seconds until the Hub wants to be asked again."""
    seconds = response.headers.get("retry-after", "")
    return float(seconds) if seconds.isdigit() else 0.0


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from: a failed upload of one file is wrapped by huggingface_hub."""
    while error is not None:
        yield error
        error = error.__cause__
