"""What messages are made of, in both directions."""

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias

import strawberry

from resolvers import contents, media
from resolvers.contents import NewItem


@strawberry.type(description="Text.")
class TextPart:
    text: str = strawberry.field(description="The text.")


@strawberry.type(description="An image.")
class ImagePart:
    url: str = strawberry.field(
        description="Where it is: an http(s) or data URL, or the path of a file on this server, which asks for a sign-in."
    )
    media_id: strawberry.ID | None = strawberry.field(description="ID of the file on this server, if it is one.")


@strawberry.type(description="Reasoning that a model showed before it answered.")
class ReasoningPart:
    text: str = strawberry.field(description="The text.")


@strawberry.type(description="A tool call that a model asked for.")
class ToolCallPart:
    id: strawberry.ID = strawberry.field(description="The model's own ID of the call; unique within its message.")
    name: str = strawberry.field(description="Name of the tool.")
    arguments: str = strawberry.field(
        description="The arguments as the model wrote them; meant to be JSON, not checked."
    )
    output: str | None = strawberry.field(
        default=None, description="What the model was told; null for a call that has not ended, or not run here."
    )
    is_error: bool = strawberry.field(default=False, description="Whether it failed.")
    error_code: str | None = strawberry.field(
        default=None,
        description="Why there is no result: `invalid_arguments`, `content_filtered`, `timeout` …; null where there is one.",
    )


ContentPart: TypeAlias = Annotated[
    TextPart | ImagePart | ReasoningPart | ToolCallPart,
    strawberry.union("ContentPart", description="A piece of a message."),
]


@strawberry.input(one_of=True, description="A piece of a message, given in exactly one of these ways.")
class ContentInput:
    text: strawberry.Maybe[str] = strawberry.field(description="Text: 1 to 200,000 characters.")
    image_url: strawberry.Maybe[str] = strawberry.field(description="An image: its http(s) or data URL.")
    media_id: strawberry.Maybe[strawberry.ID] = strawberry.field(
        description="An image: the ID of a file on this server."
    )


def parts(content: Sequence[Mapping[str, object]]) -> list[ContentPart]:
    """From the stored form."""
    return [_part(part) for part in content]


def new_message(content: Sequence[ContentInput]) -> NewItem:
    """A message of the user; one that is a single text is plain."""
    given = [_given(part) for part in content]
    return NewItem("user", given, is_plain=len(given) == 1 and isinstance(given[0], contents.TextPart))


def _part(part: Mapping[str, object]) -> ContentPart:
    match part["type"]:
        case "text":
            return TextPart(text=str(part["text"]))
        case "image":
            url = str(part["url"])
            id = media.named(url)
            return ImagePart(url=url if id is None else media.PATH + id, media_id=strawberry.ID(id) if id else None)
        case "reasoning":
            return ReasoningPart(text=str(part["text"]))
        case "tool_call":
            return tool_call(part)
        case unknown:
            raise ValueError(f"a stored part has the unknown type {unknown!r}")


def tool_call(part: Mapping[str, object]) -> ToolCallPart:
    output, code = part.get("output"), part.get("code")
    return ToolCallPart(
        id=strawberry.ID(str(part["id"])),
        name=str(part["name"]),
        arguments=str(part["arguments"]),
        output=str(output) if output is not None else None,
        is_error=bool(part.get("is_error", False)),
        error_code=str(code) if code else None,
    )


def _given(part: ContentInput) -> contents.Part:
    if part.text is not None:
        return contents.TextPart(part.text.value)
    if part.media_id is not None:
        return contents.ImagePart(media.checked(part.media_id.value))
    assert part.image_url is not None, "@oneOf lets exactly one through"
    return contents.ImagePart(part.image_url.value)
