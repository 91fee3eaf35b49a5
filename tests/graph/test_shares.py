"""Shares through the whole graph, on both databases."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from engine.providers.demo import DemoProvider
from graph.errors import RequestError
from graph.operation import Request
from resolvers import viewing
from resolvers.call import Services
from tests.graph.schema_fixtures import OPERATIONS, Answer, Person, ann, bob, demo, services, shown

__all__ = ["ann", "bob", "demo", "services"]

pytestmark = pytest.mark.anyio

SHARE = """
mutation($input: ShareConversationInput!) {
  shareConversation(input: $input) {
    share {
      id slug path title branch itemId isLive includesImages includesContext allowsFeedback viewCount lastViewedAt
      likeCount unlikeCount expiresAt revokedAt createdAt conversation { id }
    }
    errors { message path code }
  }
}"""
SHARED = """
query($slug: String!, $first: Int, $after: String) {
  sharedConversation(slug: $slug) {
    title isLive allowsFeedback expiresAt
    items(first: $first, after: $after) {
      edges { cursor node { position role status text content { ... on TextPart { text } ... on ImagePart { url } } } }
      pageInfo { hasNextPage hasPreviousPage endCursor }
    }
  }
}"""
FOLLOW = """
subscription($slug: String!, $id: ID, $after: Int) {
  sharedGeneration(slug: $slug, id: $id, after: $after) {
    __typename seq generationId
    ... on TextDelta { text }
    ... on GenerationCompleted { generation { ...Ended } }
  }
}
fragment Ended on Generation { status text conversationId usage { totalTokens } cost conversation { id } }"""


async def share(person: Person, id: str, **input: object) -> Answer:
    made = (await person.data(SHARE, input={"conversationId": id, **input}))["shareConversation"]
    assert made["errors"] == []
    found: Answer = made["share"]
    return found


async def seen(person: Person, slug: str, **page: object) -> Any:
    return (await person.data(SHARED, slug=slug, **page))["sharedConversation"]


async def followed(person: Person, slug: str, **variables: object) -> list[Answer]:
    return [event async for event in follow(person, slug, **variables)]


async def follow(person: Person, slug: str, **variables: object) -> Any:
    prepared = OPERATIONS.prepare(Request(query=FOLLOW, variables={"slug": slug, **variables}))
    async with aclosing(OPERATIONS.events(prepared, person.call)) as answers:
        async for some in answers:
            for answer in some:
                found = json.loads(answer)
                yield found["data"]["sharedGeneration"] if "errors" not in found else found["errors"]


async def test_share_is_made_changed_found_and_revoked_by_its_owner(ann: Person, bob: Person) -> None:
    id = await ann.conversation(title="Stars")
    made = await share(ann, id, expiresIn=60, allowsFeedback=True)
    assert made == {
        "id": made["id"],
        "slug": made["slug"],
        "path": f"/share/{made['slug']}",
        "title": None,
        "branch": "MAIN",
        "itemId": None,
        "isLive": True,
        "includesImages": True,
        "includesContext": False,
        "allowsFeedback": True,
        "viewCount": 0,
        "lastViewedAt": None,
        "likeCount": 0,
        "unlikeCount": 0,
        "expiresAt": made["expiresAt"],
        "revokedAt": None,
        "createdAt": made["createdAt"],
        "conversation": {"id": id},
    }
    second = await share(ann, id, isLive=False, title="Second")
    lists = "query($id: ID!) { shares { edges { node { id } } } conversation(id: $id) { shares { id } } node(id: $id) { id } }"
    found = await ann.data(lists, id=id)
    assert [edge["node"]["id"] for edge in found["shares"]["edges"]] == [second["id"], made["id"]]
    assert found["conversation"]["shares"] == [{"id": second["id"]}, {"id": made["id"]}]
    first = await ann.data("{ shares(first: 1) { edges { node { id } } pageInfo { hasNextPage endCursor } } }")
    rest = await ann.data(
        "query($after: String) { shares(after: $after) { edges { node { id } } } }",
        after=first["shares"]["pageInfo"]["endCursor"],
    )
    assert rest["shares"]["edges"] == [{"node": {"id": made["id"]}}]
    renamed = await ann.data(
        'mutation($id: ID!) { updateShare(input: {id: $id, title: "Better"}) { share { title } errors { code } } }',
        id=made["id"],
    )
    assert renamed["updateShare"] == {"share": {"title": "Better"}, "errors": []}
    node = await ann.data("query($id: ID!) { node(id: $id) { ... on Share { title } } }", id=made["id"])
    assert node == {"node": {"title": "Better"}}
    revoke = "mutation($id: ID!) { revokeShare(input: {id: $id}) { share { revokedAt } errors { code path } } }"
    refused = await bob.data(revoke, id=made["id"])
    assert refused["revokeShare"] == {"share": None, "errors": [{"code": "NOT_FOUND", "path": ["input", "id"]}]}
    revoked = (await ann.data(revoke, id=made["id"]))["revokeShare"]["share"]["revokedAt"]
    assert revoked is not None
    # Once more changes nothing.
    assert (await ann.data(revoke, id=made["id"]))["revokeShare"]["share"]["revokedAt"] == revoked
    assert await seen(bob, made["slug"]) is None


@pytest.mark.parametrize(
    ("input", "path"),
    [
        ({"expiresIn": 0}, ["input", "expiresIn"]),
        ({"title": "x" * 257}, ["input", "title"]),
        ({"branch": "nowhere"}, ["input", "branch"]),
        ({"itemId": "msg_unknown"}, ["input", "itemId"]),
    ],
)
async def test_unacceptable_share_is_told_with_its_place(
    ann: Person, input: dict[str, object], path: list[str]
) -> None:
    id = await ann.conversation()
    made = (await ann.data(SHARE, input={"conversationId": id, **input}))["shareConversation"]
    assert made["share"] is None
    assert [(error["path"], error["code"] in ("INVALID", "TOO_LONG")) for error in made["errors"]] == [(path, True)]
    foreign = (await ann.data(SHARE, input={"conversationId": "conv_unknown"}))["shareConversation"]
    assert [(error["path"], error["code"]) for error in foreign["errors"]] == [
        (["input", "conversationId"], "NOT_FOUND")
    ]


async def test_stranger_reads_the_shared_items_in_pages(services: Services, ann: Person) -> None:
    nobody = Person(services)
    id = await ann.conversation(title="Tale")
    other = await share(ann, id)
    made = await share(ann, id)
    for text in ("one", "two", "three"):
        await ann.send(id, text)
    first = await seen(nobody, made["slug"], first=2)
    assert (first["title"], first["isLive"], first["allowsFeedback"], first["expiresAt"]) == ("Tale", True, False, None)
    assert [edge["node"] for edge in first["items"]["edges"]] == [
        {"position": place, "role": "USER", "status": "COMPLETED", "text": text, "content": [{"text": text}]}
        for place, text in ((1, "one"), (2, "two"))
    ]
    info = first["items"]["pageInfo"]
    assert (info["hasNextPage"], info["hasPreviousPage"]) == (True, False)
    last = await seen(nobody, made["slug"], after=info["endCursor"])
    assert [edge["node"]["text"] for edge in last["items"]["edges"]] == ["three"]
    assert last["items"]["pageInfo"]["hasNextPage"] is False
    answer = await nobody.ask(SHARED, slug=other["slug"], after=info["endCursor"])
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"]
    assert await seen(nobody, "0" * 22) is None


async def test_stranger_follows_a_run_that_the_share_shows(services: Services, ann: Person, demo: DemoProvider) -> None:
    nobody, gate = Person(services), asyncio.Event()
    demo.enqueue("Once", gate, " upon")
    id = await ann.conversation()
    run = await ann.run(id, "Tell", onDisconnect="CANCEL")
    slug = (await share(ann, id))["slug"]
    with anyio.fail_after(5):
        watching = follow(nobody, slug)
        started, once = await anext(watching), await anext(watching)
        assert started == {"__typename": "GenerationStarted", "seq": 1, "generationId": run}
        assert once == {"__typename": "TextDelta", "seq": 2, "generationId": run, "text": "Once"}
        # A stranger who leaves does not stop what its owner has started so.
        await watching.aclose()
        gate.set()
        rest = await followed(nobody, slug, id=run, after=2)
    assert rest == [
        {"__typename": "TextDelta", "seq": 3, "generationId": run, "text": " upon"},
        {
            "__typename": "GenerationCompleted",
            "seq": 4,
            "generationId": run,
            "generation": {
                "status": "COMPLETED",
                "text": "Once upon",
                "conversationId": None,
                "usage": None,
                "cost": None,
                "conversation": None,
            },
        },
    ]
    # When none is at work there is nothing to follow.
    assert await followed(nobody, slug) == []


async def test_runs_that_a_share_does_not_show_are_absent(services: Services, ann: Person, demo: DemoProvider) -> None:
    nobody = Person(services)
    id, other = await ann.conversation(), await ann.conversation()
    slug = (await share(ann, id, isLive=False))["slug"]
    later, elsewhere = await ann.run(id), await ann.run(other)
    await ann.events(later)
    await ann.events(elsewhere)
    for wanted in (later, elsewhere, "gen_unknown"):
        with pytest.raises(RequestError) as refused:
            await followed(nobody, slug, id=wanted)
        assert [error["extensions"]["code"] for error in shown(refused.value)] == ["NOT_FOUND"]
    with pytest.raises(RequestError) as refused:
        await followed(nobody, "0" * 22)
    assert [error["extensions"]["code"] for error in shown(refused.value)] == ["NOT_FOUND"]


async def test_revoking_cuts_off_who_watches(
    services: Services, ann: Person, demo: DemoProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewing, "CHECK_SECONDS", 0.02)
    nobody, gate = Person(services), asyncio.Event()
    demo.enqueue("Once", gate, " upon")
    id = await ann.conversation()
    run = await ann.run(id)
    made = await share(ann, id)
    with anyio.fail_after(5):
        watching = follow(nobody, made["slug"])
        assert [(await anext(watching))["seq"] for _ in range(2)] == [1, 2]
        await ann.data("mutation($id: ID!) { revokeShare(input: {id: $id}) { errors { code } } }", id=made["id"])
        with pytest.raises(RequestError) as refused:
            await anext(watching)
        assert [error["extensions"]["code"] for error in shown(refused.value)] == ["NOT_FOUND"]
        gate.set()
        assert (await ann.events(run))[-1]["generation"]["text"] == "Once upon"


async def test_fork_and_feedback(services: Services, ann: Person, bob: Person) -> None:
    nobody = Person(services)
    id = await ann.conversation(title="Tale")
    await ann.send(id, "one")
    closed, made = await share(ann, id), await share(ann, id, allowsFeedback=True)
    forked = (
        await bob.data(
            "mutation($slug: String!) { forkShare(input: {slug: $slug}) { conversation { title items { edges { node { ... on Message"
            " { position text } } } } } errors { code } } }",
            slug=made["slug"],
        )
    )["forkShare"]
    assert forked == {
        "conversation": {"title": "Tale", "items": {"edges": [{"node": {"position": 1, "text": "one"}}]}},
        "errors": [],
    }
    rate = "mutation($slug: String!) { rateShare(input: {slug: $slug, rating: LIKE}) { errors { code path } } }"
    assert (await nobody.data(rate, slug=made["slug"]))["rateShare"] == {"errors": []}
    refused = await nobody.ask(rate, slug=closed["slug"])
    assert [error["extensions"]["code"] for error in refused["errors"]] == ["FORBIDDEN"]
    missing = await nobody.data(rate, slug="0" * 22)
    assert missing["rateShare"] == {"errors": [{"code": "NOT_FOUND", "path": ["input", "slug"]}]}
    counted = await ann.data(
        "query($id: ID!) { node(id: $id) { ... on Share { likeCount unlikeCount } } }", id=made["id"]
    )
    assert counted == {"node": {"likeCount": 1, "unlikeCount": 0}}
