"""What is changed in a conversation beyond adding to it: edits, other replies, branches, comparisons, ratings."""

import strawberry

from graph.relay import Connection, Edge
from graph.types.branch import Branch
from graph.types.content import ContentInput
from graph.types.conversation import Conversation, Item, Message, Rating
from graph.types.generation import Generation
from graph.types.options import GenerateOptions
from graph.types.payload import UserError
from graph.types.repetition import Repeatable


@strawberry.input(description="Another message in the place of one.")
class EditMessageInput(Repeatable):
    message_id: strawberry.ID = strawberry.field(description="ID of the message, whoever wrote it.")
    content: list[ContentInput] = strawberry.field(description="The message: 1 to 100 pieces.")
    generate: GenerateOptions | None = strawberry.field(
        default=strawberry.UNSET,
        description="How to run the model that replies: `{}` for its defaults, null for no reply.",
    )


@strawberry.input(description="The same message, said otherwise.")
class RewriteMessageInput:
    message_id: strawberry.ID = strawberry.field(description="ID of the message, whoever wrote it.")
    content: list[ContentInput] = strawberry.field(description="The message: 1 to 100 pieces.")
    expected_version: int | None = strawberry.field(
        default=strawberry.UNSET, description="The version that is to be changed; another one is a conflict."
    )


@strawberry.input(description="Which reply to write anew.")
class RegenerateMessageInput(Repeatable):
    message_id: strawberry.ID = strawberry.field(
        description="ID of the model's message, or of the user's that is to be replied to."
    )
    options: GenerateOptions | None = strawberry.field(default=strawberry.UNSET, description="How to run the model.")


@strawberry.input(description="Which message to delete.")
class DeleteMessageInput:
    message_id: strawberry.ID = strawberry.field(description="ID of the message.")


@strawberry.input(description="What the user thinks of a message.")
class RateMessageInput:
    message_id: strawberry.ID = strawberry.field(description="ID of the message.")
    rating: Rating | None = strawberry.field(default=strawberry.UNSET, description="Null takes it back.")
    comment: str | None = strawberry.field(default=strawberry.UNSET, description="Why: at most 2,000 characters.")


@strawberry.type(description="A message that was changed in place.")
class MessagePayload:
    message: Message | None = strawberry.field(default=None, description="The message.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="A conversation that goes on along a new line. What was there is kept on a branch.")
class ForkPayload:
    conversation: Conversation | None = strawberry.field(default=None, description="The conversation.")
    backup_branch: str | None = strawberry.field(default=None, description="Name of the branch that keeps what was.")
    message_edge: Edge[Item] | None = strawberry.field(
        default=None, description="Edge of the message that was written, or that is replied to."
    )
    reply_edge: Edge[Item] | None = strawberry.field(
        default=None, description="Edge of the item that the reply is written into, if one was asked for."
    )
    generation: Generation | None = strawberry.field(
        default=None, description="The run that writes the reply, if one was asked for."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.input(description="A new branch.")
class CreateBranchInput(Repeatable):
    conversation_id: strawberry.ID = strawberry.field(description="ID of the conversation.")
    name: str = strawberry.field(description="Its name: 1 to 100 characters, without a slash.")
    from_item: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="The last item that it shares; all of the active branch when left out."
    )


@strawberry.input(description="Which branch.")
class BranchInput:
    conversation_id: strawberry.ID = strawberry.field(description="ID of the conversation.")
    name: str = strawberry.field(description="Name of the branch.")


@strawberry.type(description="A conversation whose branches have changed.")
class BranchPayload:
    conversation: Conversation | None = strawberry.field(default=None, description="The conversation.")
    branch: Branch | None = strawberry.field(default=None, description="The branch, unless it was deleted.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="Where two branches part.")
class BranchDiff:
    common_count: int = strawberry.field(description="How many items they share.")
    a: Connection[Item] = strawberry.field(
        description="What the first has behind that; more by `Conversation.items` after the last cursor."
    )
    b: Connection[Item] = strawberry.field(description="What the second has behind that.")


@strawberry.input(description="A message of the user to several models.")
class CompareModelsInput(Repeatable):
    conversation_id: strawberry.ID = strawberry.field(description="ID of the conversation.")
    content: list[ContentInput] = strawberry.field(description="The message: 1 to 100 pieces.")
    models: list[str] = strawberry.field(description="Names of 2 to 8 models; the same one may be asked repeatedly.")
    options: GenerateOptions | None = strawberry.field(
        default=strawberry.UNSET, description="How to run all of them; its `model` is not looked at."
    )


@strawberry.type(description="A reply that was started.")
class ComparedReply:
    edge: Edge[Item] = strawberry.field(description="Edge of the item that it is written into.")
    generation: Generation = strawberry.field(description="The run that writes it.")


@strawberry.type(description="A message that was stored once, and the replies that were started.")
class CompareModelsPayload:
    message_edge: Edge[Item] | None = strawberry.field(default=None, description="Edge of the message.")
    replies: list[ComparedReply] = strawberry.field(
        default_factory=list, description="In the order of the models; the first stands on the active branch."
    )
    conversation: Conversation | None = strawberry.field(default=None, description="The conversation.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.input(description="Which reply to go on with.")
class KeepMessageInput:
    message_id: strawberry.ID = strawberry.field(description="ID of the reply.")


@strawberry.type(description="A conversation that goes on along another line.")
class KeepMessagePayload:
    conversation: Conversation | None = strawberry.field(default=None, description="The conversation.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
