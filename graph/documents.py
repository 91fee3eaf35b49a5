"""Documents, parsed, validated and weighed once. Only valid ones are kept, so what is found here may be executed."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import strawberry
from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FloatValueNode,
    GraphQLError,
    GraphQLSchema,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    StringValueNode,
    VariableNode,
    Visitor,
    parse,
    specified_rules,
    validate,
    visit,
)
from graphql.validation import ASTValidationRule, ValidationRule
from graphql.validation.rules import overlapping_fields_can_be_merged
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from db.base import is_storable
from graph.errors import RequestError, located
from graph.limits import Limits, Scale, TooDeep, Weight, fragments_of, size_of
from graph.manifest import ManifestError

# graphql-core's own bound on comparing fields lets one document take a second; no honest one comes near this.
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = 20_000

# Only a document that matches can hold a literal that must be refused, so only such a one is walked.
_SUSPECT = re.compile(r"\\u|[0-9]{300}|[0-9.][eE]\+?[0-9]{3}")
_LONGEST_NUMBER = 300
_HASH = re.compile(r"[0-9a-f]{64}")
_COSTS = 16
NO_DOCUMENTS: Mapping[str, str] = MappingProxyType({})
_INTROSPECTION = frozenset({"__schema", "__type"})


# An event of a subscription becomes the bytes of its answer, or None when only the executor can answer.
Projection = Callable[[object], bytes | None]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a valid document.

    `switches` are the variables that include or skip a selection; `plans` keeps what was compiled for their values.
    `page_variables` are those that say how much a page holds; `costs` keeps what the operation costs with their values.
    """

    node: OperationDefinitionNode
    weight: Weight
    page_variables: tuple[str, ...]
    defaults: Mapping[str, object]
    switches: tuple[str, ...]
    plans: dict[tuple[object, ...], Projection | None] = field(default_factory=dict)
    costs: dict[tuple[int | None, ...], int] = field(default_factory=dict)

    @property
    def kind(self) -> OperationType:
        return self.node.operation


@dataclass(frozen=True, slots=True)
class Document:
    ast: DocumentNode
    operations: Mapping[str, Operation]
    size: int

    def operation(self, name: str | None) -> Operation:
        """Raises RequestError when the name does not say which one."""
        if name is not None:
            operation = self.operations.get(name)
            if operation is None:
                raise RequestError(f"The document has no operation named {name!r}", "OPERATION_RESOLUTION_FAILURE")
            return operation
        if len(self.operations) != 1:
            message = "The document holds several operations: name one with operationName"
            raise RequestError(message, "OPERATION_RESOLUTION_FAILURE")
        return next(iter(self.operations.values()))


class Documents:
    """The documents of one schema, most recently used last."""

    def __init__(
        self,
        schema: strawberry.Schema,
        limits: Limits,
        *,
        is_introspection_on: bool = True,
        manifest: Mapping[str, str] = NO_DOCUMENTS,
        is_manifest_all: bool = False,
    ) -> None:
        """`manifest` has documents by their ids; `is_manifest_all` where no others are served. Raises ManifestError."""
        self.schema: GraphQLSchema = schema._schema  # noqa: SLF001 - the only way to graphql-core's own schema
        self.hides_suggestions = not is_introspection_on
        self._limits = limits
        rules = [*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule]
        self._rules: list[type[ASTValidationRule]] = rules if is_introspection_on else [*rules, NoIntrospection]
        self._known: OrderedDict[str, Document] = OrderedDict()
        self._size = 0
        self._manifest = manifest
        self._allowed = frozenset(manifest.values()) if is_manifest_all else None
        for id, source in manifest.items():
            try:
                self.by_source(source)
            except RequestError as error:
                raise ManifestError(f"the persisted document {id!r} does not hold: {error}") from error

    def by_source(self, source: str) -> Document:
        """Raises RequestError."""
        if self._allowed is not None and source not in self._allowed:
            raise RequestError("Only persisted documents are served", "PERSISTED_DOCUMENTS_ONLY", is_well_formed=True)
        if len(source) > self._limits.document_bytes:
            raise _too_large(self._limits.document_bytes)
        try:
            encoded = source.encode()
        except UnicodeEncodeError as error:
            raise RequestError("The document contains a lone surrogate") from error
        return self._find(hashlib.sha256(encoded).hexdigest(), source, len(encoded))

    def by_id(self, id: str, source: str | None) -> Document:
        """A persisted document; with its `source` when the client sends that to have it kept. Raises RequestError.

        Documents of the manifest go by whatever id they have there.
        """
        listed = self._manifest.get(id)
        if listed is not None:
            if source not in (None, "", listed):
                raise RequestError("The id is not that of the document")
            return self.by_source(listed)
        digest = id.lower()
        if not _HASH.fullmatch(digest):
            raise RequestError("A persisted document is named by its SHA-256 in hexadecimal")
        if source is not None:
            if hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest() != digest:
                raise RequestError("The hash is not that of the document")
            return self.by_source(source)
        known = self._recall(digest)
        if known is None:
            # Clients look for this very sentence before they send the whole document.
            raise RequestError("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND", is_well_formed=True)
        return known

    def _find(self, digest: str, source: str, size: int) -> Document:
        known = self._recall(digest)
        if known is not None:
            return known
        if size > self._limits.document_bytes:
            raise _too_large(self._limits.document_bytes)
        document = self._read(source, size)
        self._known[digest] = document
        self._size += size
        while len(self._known) > self._limits.documents or self._size > self._limits.documents_bytes:
            self._size -= self._known.popitem(last=False)[1].size
        return document

    def _recall(self, digest: str) -> Document | None:
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
        return known

    def _read(self, source: str, size: int) -> Document:
        ast = self._parse(source)
        if _SUSPECT.search(source):
            visit(ast, _Literals())
        operations = self._weigh(ast)
        errors = validate(self.schema, ast, self._rules, hide_suggestions=self.hides_suggestions)
        if errors:
            raise RequestError.of(located(error, "GRAPHQL_VALIDATION_FAILED") for error in errors)
        return Document(ast, operations, size)

    def _parse(self, source: str) -> DocumentNode:
        most = self._limits.tokens
        try:
            return parse(source, max_lexical_tokens=most, max_comments=most, allow_empty_selection_sets=False)
        except GraphQLError as error:
            raise RequestError.of([located(error, "GRAPHQL_PARSE_FAILED")]) from error

    def _weigh(self, ast: DocumentNode) -> dict[str, Operation]:
        fragments = fragments_of(ast)
        scale = Scale(self.schema, self._limits, fragments)
        switches = _switches(ast)
        operations: dict[str, Operation] = {}
        for node in ast.definitions:
            if not isinstance(node, OperationDefinitionNode):
                continue
            try:
                weight = scale.weigh(node)
            except TooDeep as error:
                raise _refused("The selections are nested too deeply") from error
            self._check(weight)
            name = node.name.value if node.name else ""
            operations[name] = Operation(node, weight, tuple(sorted(scale.page_variables)), _defaults(node), switches)
        if not operations:
            raise _refused("The document holds no operation")
        return operations

    def _check(self, weight: Weight) -> None:
        limits = self._limits
        if weight.depth > limits.depth:
            raise _refused(f"The selections are {weight.depth} levels deep; {limits.depth} are allowed")
        if weight.aliases > limits.aliases:
            raise _refused(f"The operation uses {weight.aliases} aliases; {limits.aliases} are allowed")

    def charge(self, document: Document, operation: Operation, variables: Mapping[str, object]) -> int:
        """What the operation costs with these variables. Raises RequestError when that is too much."""
        cost = operation.weight.cost
        if operation.page_variables:
            given = {**operation.defaults, **variables}
            cost = self._exact(document, operation, [size_of(given.get(name)) for name in operation.page_variables])
        if cost > self._limits.cost:
            raise RequestError(
                f"The operation costs {cost} points; {self._limits.cost} are allowed",
                "QUERY_TOO_COMPLEX",
                extensions={"cost": cost, "limit": self._limits.cost},
                is_well_formed=True,
            )
        return cost

    def _exact(self, document: Document, operation: Operation, sizes: Sequence[int | None]) -> int:
        """With pages of these sizes. Clients ask for few different ones, so what was weighed is remembered."""
        key = tuple(sizes)
        cost = operation.costs.get(key)
        if cost is None:
            given = dict(zip(operation.page_variables, sizes, strict=True))
            scale = Scale(self.schema, self._limits, fragments_of(document.ast), given)
            cost = scale.weigh(operation.node).cost
            if len(operation.costs) < _COSTS:
                operation.costs[key] = cost
        return cost


class NoIntrospection(ValidationRule):
    """Refuses `__schema` and `__type`; `__typename` stays, clients need it."""

    def enter_field(self, node: FieldNode, *_: object) -> None:
        if node.name.value in _INTROSPECTION:
            self.report_error(GraphQLError("Introspection is switched off", node))


class _Switches(Visitor):
    """The variables that `@skip` and `@include` depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: object) -> None:
        values = [argument.value for argument in node.arguments or ()]
        self.names.update(value.name.value for value in values if isinstance(value, VariableNode))


class _Literals(Visitor):
    """Refuses what a variable could not carry either: text that no database keeps, numbers beyond every range."""

    def enter_string_value(self, node: StringValueNode, *_: object) -> None:
        if not is_storable(node.value):
            raise _bad_literal("A string literal contains a NUL or a lone surrogate", node)

    def enter_int_value(self, node: IntValueNode, *_: object) -> None:
        if len(node.value) > _LONGEST_NUMBER:
            raise _bad_literal("A number is out of range", node)

    def enter_float_value(self, node: FloatValueNode, *_: object) -> None:
        if abs(float(node.value)) == float("inf"):
            raise _bad_literal("A number is out of range", node)


def _bad_literal(message: str, node: StringValueNode | IntValueNode | FloatValueNode) -> RequestError:
    return RequestError.of([located(GraphQLError(message, node), "BAD_USER_INPUT")], is_well_formed=False)


def _too_large(limit: int) -> RequestError:
    return RequestError(f"The document is larger than {limit} bytes", "TOO_LARGE", status=413)


def _refused(message: str) -> RequestError:
    return RequestError(message, "GRAPHQL_VALIDATION_FAILED", is_well_formed=True)


def _switches(ast: DocumentNode) -> tuple[str, ...]:
    visitor = _Switches()
    visit(ast, visitor)
    return tuple(sorted(visitor.names))


def _defaults(operation: OperationDefinitionNode) -> dict[str, object]:
    """Default page sizes: the only defaults that a weight depends on."""
    return {
        definition.variable.name.value: int(definition.default_value.value)
        for definition in operation.variable_definitions or ()
        if isinstance(definition.default_value, IntValueNode)
    }
