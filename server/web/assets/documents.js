// All that the console asks the graph for.

const MESSAGE = `fragment MessageParts on Message {
  role status text version rating
  content { __typename ... on ImagePart { url } ... on ReasoningPart { text } ... on ToolCallPart { ...CallParts } }
  generation { id status modelName error { code message } usage { completionTokens } }
  siblings { id role status text generation { id status modelName error { code message } } }
}
fragment CallParts on ToolCallPart { id name arguments output isError }`;
const NODE = `node {
  id position __typename
  ... on Message { ...MessageParts }
  ... on ToolCall { name arguments output isError status generation { id } }
}`;
const SUMMARY = "id title isArchived updatedAt";
const ERRORS = "errors { code message path }";
const RUN = "id status modelName error { code message isRetryable } usage { completionTokens }";

export const MODELS = "query Models { models(first: 50) { edges { node { name displayName description } } } }";

export const TOOLS = "query Tools { tools(first: 50) { edges { node { id name title description isEnabled } } } }";

export const LIST = `query List($after: String, $isArchived: Boolean) {
  conversations(first: 40, after: $after, filter: { isArchived: $isArchived }) {
    pageInfo { hasNextPage endCursor }
    edges { node { ${SUMMARY} } }
  }
}`;

// The size stands in the document: one in a variable is counted as the largest that it may be.
export const CONVERSATION = (last) => `query Conversation($id: ID!, $before: String) {
  conversation(id: $id) {
    ${SUMMARY} activeBranch
    branches { name isActive itemCount createdAt }
    items(last: ${last}, before: $before) {
      pageInfo { hasPreviousPage startCursor }
      edges { ${NODE} }
    }
  }
}
${MESSAGE}`;

export const SEARCH = `query Search($text: String!) {
  search(query: $text, first: 30) {
    edges { node { kind excerpt ranges { start end } item { id } conversation { ${SUMMARY} } } }
  }
}`;

export const SHARES = `query Shares($id: ID!) {
  conversation(id: $id) { id shares { id path createdAt revokedAt expiresAt viewCount itemId } }
}`;

export const EXPORT = "query Export($id: ID!) { exportConversation(id: $id, format: MARKDOWN) }";

export const STREAM = `subscription Stream($id: ID!, $after: Int!) {
  generation(id: $id, after: $after, coalesceMs: 30) {
    __typename seq
    ... on GenerationStarted { modelName }
    ... on GenerationRerouted { modelName }
    ... on TextDelta { text }
    ... on ReasoningDelta { text }
    ... on ToolCallDelta { index toolCallId name argumentsText }
    ... on ToolCallFinished { toolCall { id output isError } }
    ... on ApprovalRequested { approvalId tool: name given: arguments }
    ... on ApprovalDecided { approvalId }
    ... on GenerationSnapshot { text reasoning toolCalls { id name arguments output isError } }
    ... on GenerationCompleted { generation { ${RUN} } }
    ... on GenerationCancelled { generation { ${RUN} } }
    ... on GenerationIncomplete { generation { ${RUN} } }
    ... on GenerationFailed { generation { ${RUN} } }
  }
}`;

export const FEED = `subscription Feed($after: String) {
  conversationEvents(after: $after) {
    __typename cursor conversationId
    ... on ConversationUpserted { conversation { ${SUMMARY} activeBranch } }
    ... on ItemUpserted { edge { node { id ... on Message { version status } ... on ToolCall { callStatus: status } } } }
    ... on ItemDeleted { itemId }
    ... on GenerationChanged { generation { id status } }
  }
}`;

const mutation = (field, type, answer, fragment = "") =>
  `mutation ${type}($input: ${type}Input!) { ${field}(input: $input) { ${answer} ${ERRORS} } }${fragment}`;

export const CREATE = mutation("createConversation", "CreateConversation", `conversation { ${SUMMARY} activeBranch }`);
export const UPDATE = mutation("updateConversation", "UpdateConversation", `conversation { ${SUMMARY} }`);
export const DELETE = mutation("deleteConversations", "DeleteConversations", "deletedIds");
export const SEND = mutation("sendMessage", "SendMessage", `messageEdge { ${NODE} } replyEdge { ${NODE} }`, MESSAGE);
export const EDIT = mutation("editMessage", "EditMessage", "generation { id }");
export const REGENERATE = mutation("regenerateMessage", "RegenerateMessage", "generation { id }");
export const REMOVE = mutation("deleteMessage", "DeleteMessage", "backupBranch");
export const RATE = mutation("rateMessage", "RateMessage", "message { id rating }");
export const COMPARE = mutation("compareModels", "CompareModels", "replies { edge { node { id } } }");
export const KEEP = mutation("keepMessage", "KeepMessage", "conversation { id }");
export const CANCEL = mutation("cancelGeneration", "CancelGeneration", "generation { id status }");
export const ACTIVATE = mutation("activateBranch", "Branch", "conversation { id }");
export const DELETE_BRANCH = mutation("deleteBranch", "Branch", "conversation { id }");
export const SHARE = mutation("shareConversation", "ShareConversation", "share { id path }");
export const REVOKE = mutation("revokeShare", "RevokeShare", "share { id revokedAt }");
export const DECIDE = mutation("decideApproval", "DecideApproval", "approval { id status }");
