// The worked examples, one a tab. With `steps` the operations run in turn, and `take` carries values of an answer into the
// variables of the next; `use` replaces variables for one step; a step with `unless` is left out where that variable had a
// value from the start.

const STREAM = `subscription Stream($generationId: ID!, $after: Int = 0) {
  generation(id: $generationId, after: $after) {
    __typename
    seq
    ... on GenerationStarted { modelName }
    ... on TextDelta { text }
    ... on GenerationSnapshot { text }
    ... on GenerationCompleted {
      generation { status finishReason usage { promptTokens completionTokens } }
    }
    ... on GenerationFailed { error { code message } }
  }
}
`;

export const examples = [
  {
    title: "Who am I",
    about: "This page has signed you in as a guest. SignIn makes another guest, and the page goes on as that one.",
    document: `query WhoAmI {
  viewer {
    id
    role
    displayName
    createdAt
  }
}

mutation SignIn {
  guestLogin {
    accessToken
    expiresIn
    user { id role }
    errors { code message }
  }
}
`,
    variables: {},
  },
  {
    title: "Send and stream",
    about: "Makes a conversation, sends a message, and follows the reply word by word.",
    document: `mutation Create($title: String) {
  createConversation(input: { title: $title }) {
    conversation { id title createdAt }
    errors { code message path }
  }
}

mutation Send($conversationId: ID!, $text: String!) {
  sendMessage(
    input: {
      conversationId: $conversationId
      content: [{ text: $text }]
      generate: {}
    }
  ) {
    generation { id status modelName }
    errors { code message path }
  }
}

${STREAM}`,
    variables: { title: "First talk", text: "Hello! I feel a little tired of my computer today." },
    steps: [
      { operation: "Create", take: { conversationId: "createConversation.conversation.id" } },
      { operation: "Send", take: { generationId: "sendMessage.generation.id" } },
      { operation: "Stream" },
    ],
  },
  {
    title: "Resume",
    about:
      "Follows the latest generation again, past the event whose number is in “after”: events are numbered and kept, so a lost socket loses nothing. Without a generation yet, one is made first.",
    document: `mutation Generate($text: String!) {
  generate(input: { content: [{ text: $text }] }) {
    generation { id status lastSeq }
    errors { code message path }
  }
}

${STREAM}`,
    variables: { text: "Tell me something about resuming.", generationId: "", after: 3 },
    steps: [
      { operation: "Generate", take: { generationId: "generate.generation.id" }, unless: "generationId" },
      { operation: "Stream", use: { after: 0 }, unless: "generationId" },
      { operation: "Stream" },
    ],
  },
  {
    title: "Compare models",
    about: "One message to two models, which answer at once on branches of their own; both are followed together.",
    document: `mutation Begin {
  createConversation(input: { title: "Side by side" }) {
    conversation { id }
    errors { code message path }
  }
}

mutation Compare($conversationId: ID!, $text: String!, $models: [String!]!) {
  compareModels(
    input: {
      conversationId: $conversationId
      content: [{ text: $text }]
      models: $models
    }
  ) {
    replies { generation { id modelName } }
    errors { code message path }
  }
}

subscription Both($firstId: ID!, $secondId: ID!) {
  compare(ids: [$firstId, $secondId]) {
    __typename
    generationId
    seq
    ... on TextDelta { text }
    ... on GenerationFailed { error { code message } }
  }
}
`,
    variables: { text: "What do you think of comparisons?", models: ["demo", "demo"] },
    steps: [
      { operation: "Begin", take: { conversationId: "createConversation.conversation.id" } },
      {
        operation: "Compare",
        take: { firstId: "compareModels.replies.0.generation.id", secondId: "compareModels.replies.1.generation.id" },
      },
      { operation: "Both" },
    ],
  },
  {
    title: "Conversations",
    about: "Your conversations, the latest change first, each with its last messages. Put “endCursor” into “after” for the next page.",
    document: `query Conversations($first: Int = 10, $after: String) {
  conversations(first: $first, after: $after) {
    totalCount
    pageInfo { hasNextPage endCursor }
    edges {
      node {
        id
        title
        updatedAt
        items(last: 4) {
          edges {
            node {
              position
              ... on Message { role status text }
            }
          }
        }
      }
    }
  }
}
`,
    variables: { first: 10, after: null },
  },
  {
    title: "Models",
    about: "The models that this server offers, and the server itself.",
    document: `query Models {
  models {
    edges {
      node {
        name
        displayName
        providerName
        description
        capabilities
        contextLength
      }
    }
  }
  server { version isReady }
}
`,
    variables: {},
  },
  {
    title: "Tools",
    about: "What a model may be offered. The demonstration knows of no tools; others call them.",
    document: `query Tools {
  tools(first: 20) {
    edges { node { name server parameters } }
  }
}

mutation WithTools($text: String!, $tools: [ID!]) {
  generate(input: { content: [{ text: $text }], options: { tools: $tools } }) {
    generation { id status }
    errors { code message path }
  }
}

subscription Calls($generationId: ID!) {
  generation(id: $generationId) {
    __typename
    seq
    ... on TextDelta { text }
    ... on ToolCallDelta { name argumentsText }
    ... on ToolCallFinished { toolCall { name arguments output isError } }
  }
}
`,
    variables: { text: "What is 17 times 23?", tools: ["calculator"] },
    steps: [
      { operation: "Tools" },
      { operation: "WithTools", take: { generationId: "generate.generation.id" } },
      { operation: "Calls" },
    ],
  },
  {
    title: "Admin",
    about: "What administrators see: who is here, what was used, and what runs now. Sign in as one first.",
    document: `query Overview {
  admin {
    users(first: 5) { edges { node { id email role createdAt } } }
    usage(by: [MODEL]) { rows { modelName requests totalTokens cost } }
    auditLog(first: 5) { edges { node { action actorId createdAt } } }
  }
}

subscription Running {
  activeGenerations { id userName modelName seconds tokensPerSecond viewers }
}
`,
    variables: {},
  },
];
