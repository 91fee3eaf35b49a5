"""How much one document may ask for. Weighed before validation, in time linear in the document's length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLNamedType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionNode,
    ValueNode,
    VariableNode,
    get_named_type,
    is_composite_type,
    is_interface_type,
    is_object_type,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the GraphQL door. Times in seconds, sizes in bytes.

    `documents_bytes` is the source text of all documents kept; parsed, a document takes up to 280 times its text.
    """

    body_bytes: int = 1_000_000
    document_bytes: int = 65_536
    documents: int = 1_000
    documents_bytes: int = 262_144
    tokens: int = 4_000
    depth: int = 12
    aliases: int = 30
    cost: int = 10_000
    page_default: int = 20
    page_most: int = 100
    operation_seconds: float = 30.0
    body_seconds: float = 30.0
    init_seconds: float = 10.0
    send_seconds: float = 10.0
    operations_per_socket: int = 100


@dataclass(frozen=True, slots=True)
class Weight:
    """What an operation asks for: levels of fields, aliases, and objects that it may fetch (`cost`).

    Fragments count where they are spread, however often. Introspection is bounded by a validation rule of its own and by
    `levels`, which counts fragments too.
    """

    depth: int = 0
    aliases: int = 0
    cost: int = 0


NOTHING = Weight()
# The deepest chain of fragments and inline fragments that is followed; beyond it a document is refused, whatever it asks.
LEVELS = 60
_INTROSPECTION = frozenset({"__schema", "__type"})
_PAGE_ARGUMENTS = frozenset({"first", "last", "ids"})
# No sum grows beyond this, so that a product of many fragments stays a small number.
_MOST = 1_000_000_000


class TooDeep(Exception):
    """The selections nest beyond LEVELS."""


@dataclass(slots=True)
class Scale:
    """Weighs the operations of one document.

    With `variables` given the weight is exact; without, a page size that comes from a variable counts as the largest one.
    `page_variables` are the names of those that were met.
    """

    schema: GraphQLSchema
    limits: Limits
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, object] | None = None
    page_variables: set[str] = field(default_factory=set)
    _known: dict[str, Weight] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    def weigh(self, operation: OperationDefinitionNode) -> Weight:
        """Raises TooDeep."""
        root = self.schema.get_root_type(operation.operation)
        return self._all(operation.selection_set.selections, root, 1)

    def _all(self, selections: Iterable[SelectionNode], parent: GraphQLNamedType | None, level: int) -> Weight:
        if level > LEVELS:
            raise TooDeep
        depth = aliases = cost = 0
        for selection in selections:
            weight = self._one(selection, parent, level)
            depth = max(depth, weight.depth)
            aliases += weight.aliases
            cost += weight.cost
        return Weight(depth, min(aliases, _MOST), min(cost, _MOST))

    def _one(self, selection: SelectionNode, parent: GraphQLNamedType | None, level: int) -> Weight:
        if isinstance(selection, FieldNode):
            return self._field(selection, parent, level)
        if isinstance(selection, FragmentSpreadNode):
            return self._spread(selection.name.value, level)
        assert isinstance(selection, InlineFragmentNode)
        condition = selection.type_condition
        inner = self.schema.get_type(condition.name.value) if condition else parent
        return self._all(selection.selection_set.selections, inner, level + 1)

    def _spread(self, name: str, level: int) -> Weight:
        # A cycle, and a fragment that is missing, are left to the validation rules, which name the place.
        fragment = self.fragments.get(name)
        if fragment is None or name in self._open:
            return NOTHING
        known = self._known.get(name)
        if known is None:
            self._open.add(name)
            inner = self.schema.get_type(fragment.type_condition.name.value)
            known = self._all(fragment.selection_set.selections, inner, level + 1)
            self._open.discard(name)
            self._known[name] = known
        return known

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None, level: int) -> Weight:
        name = node.name.value
        aliases = 1 if node.alias is not None and node.alias.value != name else 0
        if node.selection_set is None:
            return Weight(1, aliases, 0)
        inner = self._all(node.selection_set.selections, self._type_of(parent, name), level + 1)
        if name in _INTROSPECTION:
            return Weight(1, aliases + inner.aliases, 1)
        cost = min(1 + self._page(node, parent) * inner.cost, _MOST)
        return Weight(1 + inner.depth, aliases + inner.aliases, cost)

    def _type_of(self, parent: GraphQLNamedType | None, name: str) -> GraphQLNamedType | None:
        if parent is None or not is_composite_type(parent):
            return None
        definition = self.schema.get_field(parent, name)
        return get_named_type(definition.type) if definition else None

    def _page(self, node: FieldNode, parent: GraphQLNamedType | None) -> int:
        """How many objects each selected object of this field stands for."""
        if not (is_object_type(parent) or is_interface_type(parent)):
            return 1
        definition = parent.fields.get(node.name.value)
        if definition is None or _PAGE_ARGUMENTS.isdisjoint(definition.args):
            return 1
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        for name in _PAGE_ARGUMENTS & given.keys():
            size = self._size(given[name])
            if size is not None:
                return min(size, self.limits.page_most)
        return self.limits.page_default

    def _size(self, value: ValueNode) -> int | None:
        """The size that an argument asks for; None when it is null or absent."""
        if isinstance(value, IntValueNode):
            return size_of(int(value.value))
        if isinstance(value, ListValueNode):
            return len(value.values)
        if not isinstance(value, VariableNode):
            return None
        self.page_variables.add(value.name.value)
        if self.variables is None:
            return self.limits.page_most
        return size_of(self.variables.get(value.name.value))


def size_of(value: object) -> int | None:
    """The size that the value of a page argument asks for; None where it asks for none, or will be refused."""
    if isinstance(value, list):
        return len(value)
    if isinstance(value, float) and value.is_integer():
        # Whole numbers may be written so in JSON.
        value = int(value)
    return max(value, 0) if type(value) is int else None


def fragments_of(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {
        definition.name.value: definition
        for definition in document.definitions
        if isinstance(definition, FragmentDefinitionNode)
    }
