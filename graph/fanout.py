"""What many followers are told alike: the events of a stream in the schema's types, put into bytes once for all of them."""

from collections.abc import Callable, Iterable, Sequence

import strawberry
from graphql.execution import Executor
from graphql.execution.collect_fields import collect_fields
from strawberry.types.field import StrawberryField

from graph.documents import Projection

# Puts one answer, and the place in the stream that it stands at, into the form of a transport.
Write = Callable[[bytes, str | None], bytes]

_POSITION = "position"
_DEFINITION = "strawberry-definition"
# So many forms are kept; whoever asks for one more has it made for themselves.
_FORMS = 16


class Told(list[object]):
    """Events that are told together, in the schema's types. The same object for every follower: read it, never change it."""

    __slots__ = ("__weakref__", "_answers", "_written")

    def __init__(self, events: Iterable[object] = ()) -> None:
        super().__init__(events)
        self._answers: dict[Projection, list[bytes] | None] = {}
        self._written: dict[tuple[Projection, Write], list[bytes]] = {}

    def written(self, project: Projection, write: Write, position: str | None) -> Sequence[bytes] | None:
        """The answers to one document in the form of one transport; None when one of them needs the executor.

        `position` names the attribute of an event that says where it stands.
        """
        key = project, write
        known = self._written.get(key)
        if known is None:
            answers = self._projected(project)
            if answers is None:
                return None
            known = [write(answer, place(event, position)) for event, answer in zip(self, answers, strict=True)]
            if len(self._written) < _FORMS:
                self._written[key] = known
        return known

    def _projected(self, project: Projection) -> list[bytes] | None:
        if project in self._answers:
            return self._answers[project]
        found = [answer for event in self if (answer := project(event)) is not None]
        answers = found if len(found) == len(self) else None
        if len(self._answers) < _FORMS:
            self._answers[project] = answers
        return answers


def bare(answer: bytes, _: str | None) -> bytes:
    """The form of a transport that adds what is its own to each answer by itself."""
    return answer


def place(event: object, position: str | None) -> str | None:
    """Where an event stands in its stream; None where a stream has no places to resume at."""
    return None if position is None else str(getattr(event, position))


def streamed(
    description: str, event: type, *, position: str | None = None
) -> Callable[[Callable[..., object]], StrawberryField]:
    """A subscription's field, whose function is an asynchronous generator of `Told`.

    `position` names the attribute of its events that the same field resumes after, where it can.
    """

    def decorate(resolve: Callable[..., object]) -> StrawberryField:
        return strawberry.field(
            resolve,
            description=description,
            is_subscription=True,
            graphql_type=event,
            metadata={_POSITION: position},
        )

    return decorate


def position_of(executor: Executor[None]) -> str | None:
    """The attribute of a subscription's events that says where they stand; None when they do not."""
    root = executor.schema.subscription_type
    assert root is not None
    arguments = executor.schema, executor.fragments, executor.variable_values, root, executor.operation
    [details] = collect_fields(*arguments).grouped_field_set.values()
    definition: StrawberryField = root.fields[details[0].node.name.value].extensions[_DEFINITION]
    position = definition.metadata.get(_POSITION)
    return position if isinstance(position, str) else None
