"""Where a chat enters a flow and leaves it, and where plain text and the body of a webhook do."""

from __future__ import annotations

from typing import Any

from millstream.authoring.task import task
from millstream.engine.context import running
from millstream.library.values import Message, as_text, is_message


@task(effect="pure", run_in="loop")
def chat_input(
    input_value: str = "",
    sender: str = "User",
    sender_name: str = "User",
    session_id: str | None = None,
    files: list[str] | None = None,
) -> Message:
    """Give what somebody says in a chat to the flow, as a message.

    Args:
        input_value: What is said.
        sender: What speaks: `User` or `Machine`.
        sender_name: Who speaks.
        session_id: Which chat it belongs to; none makes a chat of this job alone.
        files: Names of files that belong to it.

    >>> chat_input("hello", session_id="s1")["text"]
    'hello'
    """
    return _message(input_value, sender, sender_name, session_id, files)


@task(effect="pure", run_in="loop")
def chat_output(
    input_value: Any, sender: str = "Machine", sender_name: str = "AI", session_id: str | None = None
) -> Message:
    """Say something in the chat.

    Args:
        input_value: What is said: a text, a message, or any other value, which is said as JSON.
        sender: What speaks: `User` or `Machine`.
        sender_name: Who speaks.
        session_id: Which chat it belongs to; none takes that of the message, else that of the job.

    >>> chat_output({"rows": 2}, session_id="s1")["text"]
    '{"rows":2}'
    """
    if is_message(input_value):
        session_id = session_id or input_value["session_id"]
        return _message(input_value["text"], sender, sender_name, session_id, input_value["files"])
    return _message(as_text(input_value), sender, sender_name, session_id, None)


def _message(text: str, sender: str, sender_name: str, session_id: str | None, files: list[str] | None) -> Message:
    here = running.get()
    session_id = session_id or ("" if here is None else here.job_id)
    return Message(text=text, sender=sender, sender_name=sender_name, session_id=session_id, files=files or [])


@task(effect="pure", run_in="loop")
def text_input(input_value: str = "") -> str:
    """Give a text to the flow.

    Args:
        input_value: The text.

    >>> text_input("hello")
    'hello'
    """
    return input_value


@task(effect="pure", run_in="loop")
def text_output(input_value: Any) -> str:
    """Give a text as a result of the flow.

    Args:
        input_value: The text; of a message its text, of any other value its JSON form.

    >>> text_output([1, 2])
    '[1,2]'
    """
    return as_text(input_value)


@task(effect="pure", run_in="loop")
def webhook(payload: Any = None) -> Any:
    """Give the body of the request that started the job to the flow.

    Args:
        payload: The body; where a flow is tried out, whatever stands here.

    >>> webhook({"order": 17})
    {'order': 17}
    """
    return payload
