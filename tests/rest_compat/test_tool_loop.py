"""Tools of this server behind the REST doors: who runs which call, and what clients see of it."""

from __future__ import annotations

import anyio
import pytest
from openai.types.chat import (
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
)

from db.base import Database
from engine.events import ToolCallDelta
from tests.rest_compat.conftest import Site, running
from tests.scripted_tools import Scripted, opened, scripted

pytestmark = pytest.mark.anyio

OWN: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {"name": "own", "parameters": {"type": "object"}},
}
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is 17 * 23?"}]


def call(name: str, arguments: str = "{}", index: int = 0) -> ToolCallDelta:
    return ToolCallDelta(index=index, id=f"model-{index}", name=name, arguments=arguments)


def calculation(index: int = 0) -> ToolCallDelta:
    return call("calculator", '{"expression": "17 * 23"}', index)


async def test_a_completion_runs_tools_of_this_server_and_shows_the_answer_alone(database: Database) -> None:
    async with running(database) as site:
        site.demo.enqueue("Let me see.", calculation())
        site.demo.enqueue("It is 391.")
        body = {"model": "demo", "messages": ASKED, "tools": [{"type": "mcp", "name": "calculator"}]}
        answer = await site.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        [choice] = answer.json()["choices"]
        assert choice == {
            "index": 0,
            "message": {"role": "assistant", "content": "Let me see.\n\nIt is 391."},
            "finish_reason": "stop",
            "logprobs": None,
        }
        kept = (await site.client.get(f"/v1/generations/{answer.headers['x-generation-id']}")).json()
        assert (kept["text"], kept["tool_calls"][0]["output"]) == ("It is 391.", "391")
        assert len(await site.ledger()) == 1


async def test_a_stream_goes_on_over_the_turns_without_a_call_in_it(database: Database) -> None:
    async with running(database) as site:
        site.demo.enqueue("Let me see.", calculation())
        site.demo.enqueue("It is ", "391.")
        text, reasons, calls = "", [], 0
        with anyio.fail_after(10):
            stream = await site.openai.chat.completions.create(
                model="demo",
                messages=ASKED,
                stream=True,
                extra_body={"tools": ["calculator"]},
            )
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                calls += len(chunk.choices[0].delta.tool_calls or ())
                reasons.append(chunk.choices[0].finish_reason)
        assert (text, calls) == ("Let me see.\n\nIt is 391.", 0)
        assert [reason for reason in reasons if reason] == ["stop"]


async def test_a_client_with_functions_of_its_own_runs_them_itself(database: Database) -> None:
    async with running(database) as site:
        site.demo.enqueue(call("own", '{"a": 1}'))
        answer = await site.openai.chat.completions.create(model="demo", messages=ASKED, tools=[OWN])
        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        [made] = calls
        assert isinstance(made, ChatCompletionMessageFunctionToolCall)
        assert (made.id, made.function.name, made.function.arguments) == ("model-0", "own", '{"a": 1}')
        assert answer.choices[0].finish_reason == "tool_calls"
        assert len(site.demo.history) == 1


async def test_with_functions_of_both_sides_the_clients_calls_end_the_run_after_ours_were_run(
    database: Database,
) -> None:
    async with running(database) as site:
        site.demo.enqueue(calculation(), call("own", '{"a": 1}', 1))
        body = {"model": "demo", "messages": ASKED, "tools": ["calculator", OWN]}
        answer = await site.client.post("/v1/chat/completions", json=body)
        [choice] = answer.json()["choices"]
        [made] = choice["message"]["tool_calls"]
        assert (choice["finish_reason"], made["function"]) == ("tool_calls", {"name": "own", "arguments": '{"a": 1}'})
        kept = (await site.client.get(f"/v1/generations/{answer.headers['x-generation-id']}")).json()
        assert [one.get("output") for one in kept["tool_calls"]] == ["391", None]


async def test_generate_takes_the_names_of_tools(database: Database) -> None:
    async with running(database) as site:
        site.demo.enqueue(calculation())
        site.demo.enqueue("391")
        body = {"modality": "text", "input": {"prompt": "17 * 23?"}, "model": "demo", "tools": ["calculator"]}
        answer = await site.client.post("/v1/generate", json=body)
        assert (answer.status_code, answer.json()["output"]["text"]) == (200, "391")


async def test_a_reply_in_a_conversation_leaves_its_calls_as_items_which_the_next_turn_is_told(
    database: Database,
) -> None:
    async with running(database) as site:
        id = await site.conversation()
        site.demo.enqueue("Let me see.", calculation())
        site.demo.enqueue("It is 391.")
        body = {"role": "user", "content": "What is 17 * 23?", "model": "demo", "tools": ["calculator"]}
        sent = (await site.client.post(f"/v1/conversations/{id}/items", json=body)).json()
        with anyio.fail_after(10):
            run = site.services.supervisor.find(sent["generation_id"])
            assert run is not None
            await run.ended()
        found = (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]
        assert [(one["sequence_number"], one["type"], one["role"], one["status"]) for one in found] == [
            (1, "message", "user", "completed"),
            (2, "message", "assistant", "completed"),
            (3, "mcp_call", "tool", "completed"),
            (4, "message", "assistant", "completed"),
        ]
        asked, used, answer = found[1:]
        assert (answer["id"], answer["content"], asked["content"]) == (sent["reply_id"], "It is 391.", "Let me see.")
        assert [one["id"] for one in asked["tool_calls"]] == [used["call_id"]] == [used["id"]]
        assert (used["name"], used["output"], used["arguments"]) == ("calculator", "391", '{"expression": "17 * 23"}')
        assert used["content"] == [{"type": "tool_result", "tool_result": "391", "text": "391"}]
        site.demo.enqueue("As I said.")
        body = {"role": "user", "content": "Sure?", "model": "demo"}
        again = (await site.client.post(f"/v1/conversations/{id}/items", json=body)).json()
        with anyio.fail_after(10):
            run = site.services.supervisor.find(again["generation_id"])
            assert run is not None
            await run.ended()
        assert [message["role"] for message in site.demo.history[-1].messages] == [
            "user",
            "assistant",
            "tool",
            "assistant",
            "user",
        ]
        found_by = (await site.client.get("/v1/search", params={"q": "391", "kind": "tool"})).json()
        assert [hit["item"]["id"] for hit in found_by["data"]] == [used["id"]]


@pytest.mark.parametrize("door", ["/v1/chat/completions", "/v1/generate", "items"])
async def test_a_disallowed_word_stops_a_call_whichever_door_started_it(database: Database, door: str) -> None:
    async with running(database) as site:
        tool = opened("filtered")
        await site.register()
        scripted(site.services, tool.entry(words=("plutonium",)))
        site.demo.enqueue(call("filtered", '{"text": "plutonium"}'))
        site.demo.enqueue("I may not")
        await ask(site, door)
        assert tool.keys == []
        assert str(site.demo.history[-1].messages[-1]["content"]).startswith("Error: The arguments of this call hold")


async def ask(site: Site, door: str) -> None:
    """Returns once it is answered."""
    body: dict[str, object] = {"model": "demo", "tools": ["filtered"]}
    if door == "items":
        door = f"/v1/conversations/{await site.conversation()}/items"
        body |= {"role": "user", "content": "Hello"}
    elif door == "/v1/generate":
        body |= {"modality": "text", "input": {"prompt": "Hello"}}
    else:
        body |= {"messages": ASKED}
    with anyio.fail_after(10):
        answer = await site.client.post(door, json=body)
        assert answer.is_success, answer.text
        await site.services.supervisor.idle()


async def test_a_client_that_leaves_during_a_call_ends_the_call(database: Database) -> None:
    async with running(database) as site:
        tool = Scripted("slow")
        await site.register()
        scripted(site.services, tool.entry())
        site.demo.enqueue(call("slow"))
        body = {"model": "demo", "messages": ASKED, "stream": True, "tools": ["slow"]}
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: site.client.post("/v1/chat/completions", json=body))
                await tool.started.wait()
                group.cancel_scope.cancel()
            await site.services.supervisor.idle()
        assert tool.cancelled == tool.keys


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        (["nothing"], "There is no tool 'nothing'"),
        ([{"type": "mcp", "server_url": "http://a"}], "Servers of tools are named by `server_label`, never by address"),
        ([{"type": "mcp"}], "An entry of type mcp needs `name`, `allowed_tools` or `server_label`"),
        (["calculator", {"type": "function", "function": {"name": "calculator"}}], None),
    ],
)
async def test_bad_tools_are_refused(database: Database, tools: list[object], message: str | None) -> None:
    async with running(database) as site:
        body = {"model": "demo", "messages": ASKED, "tools": tools}
        answer = await site.client.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
        assert message is None or answer.json()["message"] == message
        assert not site.demo.history
