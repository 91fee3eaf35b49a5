// What relay-compiler reads. An application writes these beside its components, and Babel puts in what was compiled.
import { graphql } from "relay-runtime";

export const follow = graphql`
  subscription relayDocumentsFollowSubscription($id: ID!, $after: Int) {
    generation(id: $id, after: $after) {
      __typename
      seq
      ... on TextDelta {
        text
      }
    }
  }
`;
