"""Every write, in one list: each takes one input, asks one resolver and answers with a payload."""

from typing import Annotated, TypeAlias, TypeVar

import strawberry

from db import models
from graph.fields.activity import ActivityMutations
from graph.fields.approvals import ApprovalMutations
from graph.fields.catalogue import ModelMutations
from graph.fields.edits import EditMutations
from graph.fields.embeddings import EmbeddingMutations
from graph.fields.lifecycle import LifecycleMutations
from graph.fields.media import MediaMutations
from graph.fields.projects import ProjectMutations
from graph.fields.providers import ProviderMutations
from graph.fields.settings import SettingsMutations
from graph.fields.shares import ShareMutations
from graph.fields.tools import ToolMutations
from graph.fields.usage import BudgetMutations
from graph.relay import Edge, Info, given, resolved, shaped
from graph.types.account import (
    AuthPayload,
    EndSessionPayload,
    LoginInput,
    RefreshTokenInput,
    RegisterInput,
    RevokeTokenInput,
    UpdateProfileInput,
    UpdateProfilePayload,
    User,
)
from graph.types.admin import SetUserRoleInput, SetUserRolePayload
from graph.types.content import new_message
from graph.types.conversation import (
    Conversation,
    CreateConversationInput,
    CreateConversationPayload,
    DeleteConversationsInput,
    DeleteConversationsPayload,
    Item,
    Message,
    SendMessageInput,
    SendMessagePayload,
    UpdateConversationInput,
    UpdateConversationPayload,
)
from graph.types.generation import GeneratePayload, Generation
from graph.types.key import (
    ApiKey,
    CreateApiKeyInput,
    CreateApiKeyPayload,
    DeleteProviderKeyInput,
    ProviderKey,
    ProviderKeyPayload,
    RevokeApiKeyInput,
    RevokeApiKeyPayload,
    SetProviderKeyInput,
)
from graph.types.options import CancelGenerationInput, GenerateInput, GenerateOptions
from graph.types.payload import mendable
from resolvers import accounts, api_keys, conversations, generations, identity, items, provider_keys, sessions

T = TypeVar("T")
Input: TypeAlias = Annotated[T, strawberry.argument(description="What to do.")]


@strawberry.type(description="All that can be changed. What the caller can mend is told in the payload's `errors`.")
class Mutation(
    ActivityMutations,
    ModelMutations,
    ApprovalMutations,
    ProviderMutations,
    ShareMutations,
    SettingsMutations,
    EditMutations,
    ProjectMutations,
    BudgetMutations,
    LifecycleMutations,
    ToolMutations,
    MediaMutations,
    EmbeddingMutations,
):
    @resolved("Signs in as a new guest.")
    @mendable(AuthPayload)
    async def guest_login(self, info: Info) -> AuthPayload:
        return AuthPayload.from_tokens(await identity.guest_login(info.context.call))

    @resolved("Makes an account and signs in to it.")
    @mendable(AuthPayload)
    async def register(self, info: Info, input: Input[RegisterInput]) -> AuthPayload:
        return AuthPayload.from_tokens(await accounts.sign_up(info.context.call, input.person()))

    @resolved("Signs in.")
    @mendable(AuthPayload)
    async def login(self, info: Info, input: Input[LoginInput]) -> AuthPayload:
        return AuthPayload.from_tokens(await accounts.login(info.context.call, input.email, input.password))

    @resolved("Makes the guest who calls a user with an account, who keeps all they have.")
    @mendable(AuthPayload)
    async def upgrade_guest(self, info: Info, input: Input[RegisterInput]) -> AuthPayload:
        return AuthPayload.from_tokens(await accounts.upgrade(info.context.call, input.person()))

    @resolved("Exchanges a refresh token for new tokens; it cannot be used again.")
    @mendable(AuthPayload)
    async def refresh_token(self, info: Info, input: Input[RefreshTokenInput]) -> AuthPayload:
        return AuthPayload.from_tokens(await sessions.refresh(info.context.call, input.refresh_token))

    @resolved("Ends the sign-in that a token belongs to.")
    @mendable(EndSessionPayload)
    async def revoke_token(self, info: Info, input: Input[RevokeTokenInput]) -> EndSessionPayload:
        await sessions.revoke(info.context.call, input.token)
        return EndSessionPayload()

    @resolved("Ends the sign-in of the viewer.")
    @mendable(EndSessionPayload)
    async def logout(self, info: Info) -> EndSessionPayload:
        await sessions.logout(info.context.call)
        return EndSessionPayload()

    @resolved("Changes the viewer's profile.")
    @mendable(UpdateProfilePayload)
    async def update_profile(self, info: Info, input: Input[UpdateProfileInput]) -> UpdateProfilePayload:
        return UpdateProfilePayload(
            viewer=User.from_row(await accounts.update_profile(info.context.call, input.change()))
        )

    @resolved("Gives a user another role. For administrators, who cannot change their own.")
    @mendable(SetUserRolePayload)
    async def set_user_role(self, info: Info, input: Input[SetUserRoleInput]) -> SetUserRolePayload:
        row = await accounts.set_role(info.context.call, input.user_id, models.Role(str(input.role.value)))
        return SetUserRolePayload(user=User.from_row(row))

    @resolved("Makes a conversation.")
    @mendable(CreateConversationPayload)
    async def create_conversation(self, info: Info, input: Input[CreateConversationInput]) -> CreateConversationPayload:
        call = input.call(info)
        row = await conversations.create(
            call,
            title=given(input.title),
            metadata=given(input.metadata),
            project_id=given(input.project_id),
            referrer=given(input.referrer),
        )
        made = Conversation.from_row(row)
        cursor = conversations.cursor(call, row)
        return CreateConversationPayload(conversation=made, conversation_edge=Edge(cursor=cursor, node=made))

    @resolved("Changes a conversation.")
    @mendable(UpdateConversationPayload)
    async def update_conversation(self, info: Info, input: Input[UpdateConversationInput]) -> UpdateConversationPayload:
        row = await conversations.update(info.context.call, input.id, input.change())
        info.context.loaders.forget()
        return UpdateConversationPayload(conversation=Conversation.from_row(row))

    @resolved("Deletes conversations with all that is in them, and stops the runs that write into them.")
    @mendable(DeleteConversationsPayload)
    async def delete_conversations(
        self, info: Info, input: Input[DeleteConversationsInput]
    ) -> DeleteConversationsPayload:
        found = await conversations.delete(info.context.call, input.ids)
        info.context.loaders.forget()
        return DeleteConversationsPayload(deleted_ids=[strawberry.ID(id) for id in found])

    @resolved("Adds a message to a conversation and, if asked to, starts a reply.")
    @mendable(SendMessagePayload)
    async def send_message(self, info: Info, input: Input[SendMessageInput]) -> SendMessagePayload:
        call = input.call(info)
        wanted = given(input.generate)
        options = wanted.options() if wanted is not None else None
        sent = await generations.send_message(call, input.conversation_id, new_message(input.content), options)
        info.context.loaders.forget()
        edge = Edge[Item](cursor=items.cursor(call, sent.item), node=Message.from_row(sent.item))
        reply = None
        if sent.reply is not None:
            reply = Edge[Item](cursor=items.cursor(call, sent.reply), node=Message.from_row(sent.reply))
        return SendMessagePayload(
            message_edge=edge,
            reply_edge=reply,
            generation=shaped(Generation.from_row, sent.generation),
            conversation=Conversation.from_row(sent.conversation),
        )

    @resolved("Runs a model outside any conversation.")
    @mendable(GeneratePayload)
    async def generate(self, info: Info, input: Input[GenerateInput]) -> GeneratePayload:
        wanted = given(input.options) or GenerateOptions()
        row = await generations.generate(input.call(info), new_message(input.content), wanted.options())
        return GeneratePayload(generation=Generation.from_row(row))

    @resolved("Stops a run and tells how it ended; one that has ended stays as it is.")
    @mendable(GeneratePayload)
    async def cancel_generation(self, info: Info, input: Input[CancelGenerationInput]) -> GeneratePayload:
        row = await generations.cancel(info.context.call, input.id)
        info.context.loaders.forget()
        return GeneratePayload(generation=Generation.from_row(row))

    @resolved("Makes an API key. The secret is shown this once.")
    @mendable(CreateApiKeyPayload)
    async def create_api_key(self, info: Info, input: Input[CreateApiKeyInput]) -> CreateApiKeyPayload:
        holds_for = api_keys.lifetime(given(input.expires_in_days))
        scopes = [str(scope.value) for scope in input.scopes]
        made = await api_keys.create(info.context.call, input.name, scopes, holds_for)
        info.context.loaders.forget()
        return CreateApiKeyPayload.from_new(made)

    @resolved("Takes an API key back, for good: whatever uses it ends within seconds.")
    @mendable(RevokeApiKeyPayload)
    async def revoke_api_key(self, info: Info, input: Input[RevokeApiKeyInput]) -> RevokeApiKeyPayload:
        row = await api_keys.revoke(info.context.call, input.id)
        info.context.loaders.forget()
        return RevokeApiKeyPayload(api_key=ApiKey.from_row(row))

    @resolved("Keeps the viewer's own credential for an upstream, for the viewer's generations alone.")
    @mendable(ProviderKeyPayload)
    async def set_provider_key(self, info: Info, input: Input[SetProviderKeyInput]) -> ProviderKeyPayload:
        row = await provider_keys.put(info.context.call, input.provider, input.api_key)
        info.context.loaders.forget()
        return ProviderKeyPayload(provider_key=ProviderKey.from_row(row))

    @resolved("Deletes the viewer's own credential for an upstream.")
    @mendable(ProviderKeyPayload)
    async def delete_provider_key(self, info: Info, input: Input[DeleteProviderKeyInput]) -> ProviderKeyPayload:
        row = await provider_keys.delete(info.context.call, input.provider)
        info.context.loaders.forget()
        return ProviderKeyPayload(provider_key=ProviderKey.from_row(row))
