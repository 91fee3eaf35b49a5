"""The routes of approvals."""

from __future__ import annotations

from resolvers.access import READ, WRITE
from rest_compat import approvals
from rest_compat.approvals import ApprovalList, ApprovalObject, ApprovalQuery, RulingRequest
from rest_compat.endpoint import bare, operation

OPERATIONS = (
    operation("GET", "/v1/approvals", READ, approvals.list_page, request=ApprovalQuery, response=ApprovalList),
    bare("GET", "/v1/approvals/{id}", READ, approvals.get, response=ApprovalObject),
    operation("POST", "/v1/approvals/{id}", WRITE, approvals.decide, request=RulingRequest, response=ApprovalObject),
)  # fmt: skip
