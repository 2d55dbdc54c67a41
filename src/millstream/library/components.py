"""What each task of the library looks like on a canvas."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from millstream.authoring.documents.describe import component_of
from millstream.authoring.documents.structure import GROUP as FLOW_CONTROL
from millstream.library import chat, example, files, json_values, logic, patterns, prompt, text, web
from millstream.model.component import Component, Port

_TEXT: Final[dict[str, Any]] = {"schema": {"type": "string"}}
"""What can be set at an input that takes any value from an edge, and reads it as text."""

_MESSAGE: Final = (
    Port(name="message", type="message", title="Message", description="What is said, and by whom."),
    Port(name="text", type="text", title="Text", description="What is said.", path=("text",)),
)


def described() -> Iterator[Component]:
    """Yield all components of the library, those too whose packages are not installed."""
    for group in (_of_chats, _of_texts, _of_data, _of_routers, _of_examples):
        yield from group()


def _of_chats() -> Iterator[Component]:
    made = partial(component_of, group="Inputs and outputs")
    said = {"title": "Text", "schema": {"type": "string"}}
    given: dict[str, Any] = {"source": "input_value"}
    session: dict[str, Any] = {"title": "Session", "source": "session"}
    yield made(
        chat.chat_input,
        name="ChatInput",
        title="Chat input",
        icon="message-square",
        input_type="chat",
        ports={"input_value": said | given, "session_id": session, "files": {"source": "files"}},
        outputs=_MESSAGE,
    )
    yield made(
        chat.chat_output,
        name="ChatOutput",
        title="Chat output",
        icon="message-square-reply",
        output_type="chat",
        ports={"input_value": said, "session_id": session},
        outputs=_MESSAGE,
    )
    yield made(
        chat.text_input,
        name="TextInput",
        title="Text input",
        icon="text-cursor-input",
        input_type="text",
        ports={"input_value": said | given},
        outputs=(Port(name="text", type="text", title="Text"),),
    )
    yield made(
        chat.text_output,
        name="TextOutput",
        title="Text output",
        icon="text-select",
        output_type="text",
        ports={"input_value": said},
        outputs=(Port(name="text", type="text", title="Text"),),
    )
    yield made(
        chat.webhook,
        name="Webhook",
        title="Webhook",
        icon="webhook",
        ports={"payload": {"source": "payload"}},
        outputs=(Port(name="payload", title="Payload", description="The body of the request."),),
    )


def _of_texts() -> Iterator[Component]:
    made = partial(component_of, group="Text")
    yield made(
        prompt.prompt_template,
        name="PromptTemplate",
        title="Prompt template",
        icon="scroll-text",
        ports={"template": {"title": "Template"}},
        outputs=(Port(name="prompt", type="text", title="Prompt"),),
    )
    yield made(text.text_transform, name="TextTransform", title="Text transform", icon="type", ports={"text": _TEXT})
    yield made(
        text.concatenate,
        name="Concatenate",
        title="Concatenate",
        icon="combine",
        ports={"texts": {"is_many": True, "type": "any"}},
    )
    yield made(patterns.regex_extract, name="RegexExtract", title="Regex extract", icon="regex", ports={"text": _TEXT})
    yield made(
        patterns.regex_replace, name="RegexReplace", title="Regex replace", icon="replace", ports={"text": _TEXT}
    )


def _of_data() -> Iterator[Component]:
    made = partial(component_of, group="Data")
    yield made(json_values.json_parse, name="JsonParse", title="JSON parse", icon="file-json", ports={"text": _TEXT})
    yield made(json_values.json_format, name="JsonFormat", title="JSON format", icon="list-tree")
    yield made(json_values.json_pick, name="JsonPick", title="JSON pick", icon="pipette")
    yield made(
        web.http_request,
        name="HttpRequest",
        title="HTTP request",
        icon="globe",
        ports={"url": {"title": "URL"}, "json": {"title": "JSON"}, "headers": {"is_secret": True}},
        outputs=(
            Port(name="response", type="data", title="Response", description="All of what is below."),
            Port(name="data", title="Data", description="The body, where it is JSON.", path=("data",)),
            Port(name="text", type="text", title="Text", description="The body as text.", path=("text",)),
            Port(name="status", type="number", title="Status", path=("status",)),
            Port(name="headers", type="data", title="Headers", path=("headers",)),
        ),
    )
    yield made(
        files.file_read,
        name="FileRead",
        title="Read file",
        icon="file-input",
        outputs=(Port(name="text", type="text", title="Text"),),
    )
    yield made(
        files.file_write,
        name="FileWrite",
        title="Write file",
        icon="file-output",
        ports={"text": _TEXT},
        outputs=(Port(name="result", type="data", title="Result", description="The path, and the size in bytes."),),
    )


def _of_routers() -> Iterator[Component]:
    plain = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}
    other = {"other": {"title": "Compared with", "schema": plain}}
    yield component_of(
        logic.condition,
        name="Condition",
        title="Condition",
        group=FLOW_CONTROL,
        icon="circle-question-mark",
        ports=other,
    )
    made = partial(component_of, group=FLOW_CONTROL, kind="router")
    yield made(
        logic.if_else,
        name="IfElse",
        title="If else",
        icon="split",
        ports=other,
        outputs=(
            Port(name="true", title="True", description="The value, where the condition holds."),
            Port(name="false", title="False", description="The value, where it does not."),
        ),
    )
    cases = [name for name in logic.switch.inputs.signature.parameters if name.startswith("case_")]
    yield made(
        logic.switch,
        name="Switch",
        title="Switch",
        icon="route",
        outputs=(
            *(Port(name=case, title=case.replace("_", " ").capitalize()) for case in cases),
            Port(name="default", title="Default", description="The value, where it is equal to no case."),
        ),
    )


def _of_examples() -> Iterator[Component]:
    yield component_of(
        example.long_running_task,
        name="LongRunningTask",
        title="Long-running task",
        group="Examples",
        icon="hourglass",
    )
