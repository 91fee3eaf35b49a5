"""What another device of the viewer's did: events that carry the present state of what changed."""

import strawberry

from db import models
from graph.relay import Edge
from graph.types import conversation
from graph.types.conversation import Conversation, Item
from graph.types.generation import Generation
from resolvers import items
from resolvers.call import Call
from resolvers.feed import Kind, News


@strawberry.interface(
    description="Something changed in a conversation. Several changes of one thing may be told as one."
)
class ConversationEvent:
    cursor: str = strawberry.field(
        description="Marks this place in the feed; `Subscription.conversationEvents` resumes after it."
    )
    conversation_id: strawberry.ID = strawberry.field(description="ID of the conversation.")


@strawberry.type(description="A conversation was made or changed.")
class ConversationUpserted(ConversationEvent):
    conversation: Conversation = strawberry.field(description="The conversation as it is now.")


@strawberry.type(description="A conversation was deleted, with all that was in it.")
class ConversationDeleted(ConversationEvent):
    pass


@strawberry.type(description="An item was added or changed.")
class ItemUpserted(ConversationEvent):
    edge: Edge[Item] = strawberry.field(description="The item as it is now: its edge in `Conversation.items`.")


@strawberry.type(description="An item was deleted.")
class ItemDeleted(ConversationEvent):
    item_id: strawberry.ID = strawberry.field(description="ID of the item.")


@strawberry.type(description="A run was started, or has ended.")
class GenerationChanged(ConversationEvent):
    generation: Generation = strawberry.field(description="The run as it is now.")


def event(call: Call, news: News) -> ConversationEvent:
    cursor, conversation_id = news.cursor, strawberry.ID(news.conversation_id)
    match news.subject:
        case models.Conversation() as row:
            return ConversationUpserted(
                cursor=cursor, conversation_id=conversation_id, conversation=Conversation.from_row(row)
            )
        case models.Item() as row:
            edge = Edge[Item](cursor=items.cursor(call, row), node=conversation.item(row))
            return ItemUpserted(cursor=cursor, conversation_id=conversation_id, edge=edge)
        case models.Generation() as row:
            return GenerationChanged(
                cursor=cursor, conversation_id=conversation_id, generation=Generation.from_row(row)
            )
        case None if news.kind is Kind.ITEM:
            item_id = strawberry.ID(news.item_id or "")
            return ItemDeleted(cursor=cursor, conversation_id=conversation_id, item_id=item_id)
        case None:
            return ConversationDeleted(cursor=cursor, conversation_id=conversation_id)
